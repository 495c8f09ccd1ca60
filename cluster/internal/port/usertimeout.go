package port

import (
	"net"
	"syscall"
	"time"
)

// SetUserTimeout bounds how long sent bytes may stay unacknowledged: after an
// outage TCP would retransmit ever more slowly and the stream stay mute for
// minutes. It does nothing to a stream that is not the machine's own.
func SetUserTimeout(conn net.Conn, d time.Duration) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { setSocketUserTimeout(int(fd), d) })
}
