"""What travels through the house: calls, attempts, replies, outcomes, journals, and the ports that stages need."""
