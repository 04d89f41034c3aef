"""The service: engines behind HTTP. Needs the extra `serve`; nothing outside of this folder imports it at start."""
