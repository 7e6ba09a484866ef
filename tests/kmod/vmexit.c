// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * vmexit.c - end the virtual machine at once, from inside. Linked statically, for the initramfs.
 *
 *	vmexit STATUS   qemu exits with STATUS * 2 + 1: its device isa-debug-exit sits at the port below.
 *	                Nothing is synced and nothing unmounted: to the guest this is a power cut.
 *	vmexit reset    the same through the reset line of the machine; qemu restarts or, with -no-reboot,
 *	                exits with 0.
 *
 * The kernels of Debian have no /dev/port, so the port is asked for with iopl(2).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <termios.h>
#include <unistd.h>

#define EXIT_PORT 0xf4	    /* as in vm.sh */
#define KEYBOARD_PORT 0x64  /* command 0xfe of the keyboard's controller pulls the reset line */
#define KEYBOARD_RESET 0xfe

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: vmexit STATUS|reset\n");
		return 2;
	}
	/* What was printed is on its way through serial ports: let it out. */
	tcdrain(STDOUT_FILENO);
	tcdrain(STDERR_FILENO);
	if (iopl(3)) {
		perror("vmexit: iopl");
		return 1;
	}
	if (!strcmp(argv[1], "reset"))
		outb(KEYBOARD_RESET, KEYBOARD_PORT);
	else
		outl((unsigned int)atoi(argv[1]), EXIT_PORT);
	sleep(1);
	return 1;
}
