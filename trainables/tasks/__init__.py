"""What is predicted: tasks by name, those that ship, and the checks of what a task's labels look at."""
