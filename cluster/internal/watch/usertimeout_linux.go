package watch

import (
	"time"

	"golang.org/x/sys/unix"
)

// setSocketUserTimeout is best effort: fresh dials mend what it does not.
func setSocketUserTimeout(fd int, d time.Duration) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
}
