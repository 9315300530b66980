"""From a model and images to images: folders, photographs, animations and clips."""
