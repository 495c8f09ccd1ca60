package lockclient

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// freshFor is how long after something was read from a connection nobody needs
// to ask the system whether it is still open.
const freshFor = 100 * time.Millisecond

// A line is a connection to Redis. It ends with the context that it was made
// for: nothing that waits for an answer then goes on waiting.
//
// It also spares the pool the system call by which it looks at a connection each
// time before it hands it out: a quarter of a client's work when calls follow one
// another closely. One that breaks within freshFor is found by the next call on
// it, which is sent again.
type line struct {
	net.Conn
	stop  func() bool
	gate  *dialGate
	raw   syscall.Conn          // nil for one that cannot be looked at
	heard atomic.Bool           // anything at all
	why   atomic.Pointer[error] // nothing was heard
	read  atomic.Int64          // when something was read last, since began
}

func newLine(life context.Context, c net.Conn, gate *dialGate) *line {
	l := &line{Conn: c, gate: gate}
	l.raw, _ = c.(syscall.Conn)
	l.stop = context.AfterFunc(life, func() { c.Close() })
	return l
}

// Read notes that the connection works.
func (l *line) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if err == nil {
		l.read.Store(int64(time.Since(began)))
		if !l.heard.Load() {
			l.heard.Store(true)
		}
	} else if !l.heard.Load() {
		l.why.Store(&err)
	}
	return n, err
}

// Close closes the connection. One that ends before anything was read from it was
// not worth dialling for, which the gate should know.
func (l *line) Close() error {
	if l.stop() && !l.heard.Load() {
		err := io.ErrUnexpectedEOF
		if why := l.why.Load(); why != nil {
			err = *why
		}
		l.gate.failed(err)
	}
	return l.Conn.Close()
}

// SyscallConn is what the pool looks through.
func (l *line) SyscallConn() (syscall.RawConn, error) {
	if l.raw == nil || time.Since(began)-time.Duration(l.read.Load()) < freshFor {
		return nothingToSee{}, nil
	}
	return l.raw.SyscallConn()
}

// nothingToSee calls nobody back.
type nothingToSee struct{}

func (nothingToSee) Control(func(uintptr)) error    { return nil }
func (nothingToSee) Read(func(uintptr) bool) error  { return nil }
func (nothingToSee) Write(func(uintptr) bool) error { return nil }

// A deadLine is a connection that did not come about; each use of it says why.
type deadLine struct{ err error }

func (l deadLine) Read([]byte) (int, error)         { return 0, l.err }
func (l deadLine) Write([]byte) (int, error)        { return 0, l.err }
func (l deadLine) Close() error                     { return nil }
func (l deadLine) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (l deadLine) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (l deadLine) SetDeadline(time.Time) error      { return nil }
func (l deadLine) SetReadDeadline(time.Time) error  { return nil }
func (l deadLine) SetWriteDeadline(time.Time) error { return nil }

// lifeKey is the key of the context that a connection is made for, in the one
// that it is dialled with: go-redis ends that one after the dial.
type lifeKey struct{}

// forLife returns ctx for a connection that has to end with it.
func forLife(ctx context.Context) context.Context { return context.WithValue(ctx, lifeKey{}, ctx) }
