"""The commands of `pixelsnail-infer`."""
