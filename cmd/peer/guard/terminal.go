//go:build unix

package guard

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// terminal is the controlling terminal, whose foreground process group may read
// it and hears ^C.
type terminal struct {
	f      *os.File
	wanted bool // the command had it, or asked for it
}

// openTerminal returns nil when this process has no controlling terminal.
func openTerminal() *terminal {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	return &terminal{f: f}
}

// interactive says whether the command should have the terminal from the start:
// its input and its output are terminals. In a pipeline (`peer lock … | less`)
// the other end may be what reads it; then the command gets it when it asks.
func (t *terminal) interactive() bool {
	t.wanted = isTerminal(0) && isTerminal(1)
	return t.wanted
}

func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, getTermios)
	return err == nil
}

// group returns the foreground process group, or -1.
func (t *terminal) group() int {
	g, err := unix.IoctlGetInt(int(t.f.Fd()), unix.TIOCGPGRP)
	if err != nil {
		return -1
	}
	return g
}

// give makes pgid the foreground group. The guard is in a background group and
// would be stopped for it by SIGTTOU, unless that is ignored meanwhile. It must
// not be called while a process is being started, which would inherit that.
func (t *terminal) give(pgid int) {
	signal.Ignore(syscall.SIGTTOU)
	defer signal.Reset(syscall.SIGTTOU)
	_ = unix.IoctlSetPointerInt(int(t.f.Fd()), unix.TIOCSPGRP, pgid)
}
