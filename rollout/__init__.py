"""What happens with a deploy once it is asked for."""
