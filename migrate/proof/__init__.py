"""The boot proof: the image is booted in a closed sandbox as Magalu Cloud would boot it, and asked whether it came up."""
