"""What a run takes, before anything is downloaded."""
