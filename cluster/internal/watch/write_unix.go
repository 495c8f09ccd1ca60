//go:build unix

package watch

import (
	"net"
	"syscall"
)

// atOnce writes to a socket as much as the kernel takes at once. A deadline would
// do as well, but its timer wakes the process for nothing, at every beat.
type atOnce struct {
	raw syscall.RawConn
	b   []byte
	n   int
	do  func(fd uintptr) bool // made once, so that a write allocates nothing
}

// newAtOnce returns nil for what is not a socket.
func newAtOnce(conn net.Conn) *atOnce {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	a := &atOnce{raw: raw}
	a.do = func(fd uintptr) bool {
		if n, err := syscall.Write(int(fd), a.b); err == nil {
			a.n = n
		}
		return true // whether or not: what is left is written with the next frame
	}
	return a
}

// write returns how many bytes of b were taken. One goroutine at a time calls it.
func (a *atOnce) write(b []byte) int {
	a.b, a.n = b, 0
	_ = a.raw.Write(a.do) // an error ends the reading, too, and that is told
	a.b = nil
	return a.n
}
