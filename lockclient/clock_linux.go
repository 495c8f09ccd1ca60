package lockclient

import (
	"time"

	"golang.org/x/sys/unix"
)

// suspended returns how long this machine has slept since it booted: the
// difference of its two monotonic clocks, one of which stands still then.
func suspended() time.Duration {
	var boot, mono unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono) != nil {
		return 0
	}
	return time.Duration(boot.Nano() - mono.Nano())
}
