"""What `vkdlib.<name>` gives: one model asked, unlearned, exported, by names and files."""
