"""What undoes refusal, and what adds it."""
