/* Runs a program and prints "peak-kib N", the largest resident set of it and of its children.
 *
 * A child counts the memory of the process that it was forked from until it executes its program, so the process that measures has
 * to be smaller than what it measures: this one is half a megabyte. */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **arguments)
{
	struct rusage usage;
	int status;
	pid_t child;

	if (count < 2) {
		fputs("usage: peak PROGRAM [ARGUMENT...]\n", stderr);
		return 2;
	}
	child = vfork();
	if (child == 0) {
		execvp(arguments[1], arguments + 1);
		_exit(127);
	}
	if (child < 0 || wait4(child, &status, 0, &usage) < 0) {
		perror("peak");
		return 1;
	}
	fprintf(stderr, "peak-kib %ld\n", usage.ru_maxrss);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
