"""What a sound file holds, packet by packet: containers, decoders, and what is missing."""
