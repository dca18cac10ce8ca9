"""One generation: from the request's inputs through the denoising loop to a video file."""
