package lockclient

import (
	"time"

	"golang.org/x/sys/unix"
)

// suspended returns how long this machine has slept since it booted: the
// difference of its two monotonic clocks, one of which stands still then. Both
// are read within a millisecond.
func suspended() time.Duration {
	var before, boot, after unix.Timespec
	for range 5 {
		if unix.ClockGettime(unix.CLOCK_MONOTONIC, &before) != nil ||
			unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil ||
			unix.ClockGettime(unix.CLOCK_MONOTONIC, &after) != nil {
			return 0
		}
		if after.Nano()-before.Nano() < int64(time.Millisecond) {
			break
		}
	}
	return time.Duration(boot.Nano() - before.Nano())
}
