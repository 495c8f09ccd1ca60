//go:build unix && !linux

package guard

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	getTermios = unix.TIOCGETA
	subreaper  = false
)

func executable() (string, error) { return os.Executable() }

// clock is the machine's monotonic clock in nanoseconds.
func clock() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// replaceFile makes fd the same open file as from.
func replaceFile(from, fd int) error { return unix.Dup2(from, fd) }

func nameProcess(string) {}

func becomeSubreaper() error { return nil }

func commandAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// Without a subreaper only the process group is known to belong to the command.

func signalDescendants(syscall.Signal, int) {}

func killDescendants() { time.Sleep(tick) }
