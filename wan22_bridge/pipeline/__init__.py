"""Pipeline of one generation: from the request's input files through the denoising loop to the video file."""
