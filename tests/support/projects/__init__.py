"""Django projects with settings of their own, each run as a program."""
