"""One model: the sampling loop, the buffers under it and the sampler above it."""
