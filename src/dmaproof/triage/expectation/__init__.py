"""What a figure should be: by the physics of its link, by a baseline, by its peers; and why it is not."""
