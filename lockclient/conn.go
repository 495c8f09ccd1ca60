package lockclient

import (
	"context"
	"io"
	"net"
	"sync"
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
//
// And it lets go of a caller that leaves its question: the line then stays until
// there is an answer, or until the call would have timed out, so that it is known
// when the question can do no more harm.
//
// Goroutine: outstay, when it was left.
type line struct {
	net.Conn
	stop      func() bool
	gate      *dialGate
	questions *questions
	timed     bool                  // what is read is an answer, and not news
	raw       syscall.Conn          // nil for one that cannot be looked at
	heard     atomic.Bool           // anything at all
	why       atomic.Pointer[error] // nothing was heard
	read      atomic.Int64          // when something was read last, since began
	asked     atomic.Int64          // when something was written of which no answer is read yet, since began; 0 for none

	mu       sync.Mutex
	question *question     // whose deadline was set last
	blocked  bool          // somebody reads or writes
	left     bool          // by its caller
	over     chan struct{} // when it was left: closed when it is closed
}

func newLine(life context.Context, c net.Conn, gate *dialGate, qs *questions, timed bool) *line {
	l := &line{Conn: c, gate: gate, questions: qs, timed: timed}
	l.raw, _ = c.(syscall.Conn)
	l.stop = context.AfterFunc(life, func() { c.Close() })
	return l
}

// Read notes that the connection works.
func (l *line) Read(b []byte) (int, error) {
	if !l.enter(true) {
		return 0, errLeft
	}
	n, err := l.Conn.Read(b)
	err = l.exit(err, true)
	if err == nil {
		now := int64(time.Since(began))
		l.read.Store(now)
		if asked := l.asked.Swap(0); asked != 0 {
			l.questions.took(time.Duration(now - asked))
		}
		if !l.heard.Load() {
			l.heard.Store(true)
		}
	} else if !l.heard.Load() {
		l.why.Store(&err)
	}
	return n, err
}

// Write is that of the connection.
func (l *line) Write(b []byte) (int, error) {
	if !l.enter(false) {
		return 0, errLeft
	}
	if l.timed {
		l.asked.CompareAndSwap(0, int64(time.Since(began)))
	}
	n, err := l.Conn.Write(b)
	return n, l.exit(err, n > 0)
}

// enter says that somebody is going to block, unless its question was left: then
// the line was, too, if it has been asked.
func (l *line) enter(asked bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left || l.question != nil && l.question.left.Load() {
		if asked {
			l.leaveNow()
		}
		return false
	}
	l.blocked = true
	return true
}

// exit says that nobody blocks any more, and makes err errLeft if the question was
// left. An answer that came all the same counts, and none comes to what was not
// asked.
func (l *line) exit(err error, asked bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blocked = false
	if !l.left {
		return err
	}
	if err == nil || !asked {
		l.left, l.over = false, nil
	}
	if err == nil {
		return nil
	}
	return errLeft
}

// leave lets go of q's caller, if that is blocked here.
func (l *line) leave(q *question) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.question == q && l.blocked {
		l.leaveNow()
		l.Conn.SetDeadline(time.Unix(1, 0)) // long ago
	}
}

// leaveNow: the caller holds l.mu.
func (l *line) leaveNow() {
	l.left = true
	if l.over == nil {
		l.over = make(chan struct{})
	}
}

// SetDeadline, SetReadDeadline and SetWriteDeadline tell whose question is next.
func (l *line) SetDeadline(t time.Time) error      { return l.next(t, l.Conn.SetDeadline) }
func (l *line) SetReadDeadline(t time.Time) error  { return l.next(t, l.Conn.SetReadDeadline) }
func (l *line) SetWriteDeadline(t time.Time) error { return l.next(t, l.Conn.SetWriteDeadline) }

func (l *line) next(t time.Time, set func(time.Time) error) error {
	q := l.questions.named(t)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.question = q
	if q != nil {
		q.line.Store(l)
	}
	return set(t)
}

// outstayed returns what is closed when a line that was left is closed.
func (l *line) outstayed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over
}

// outstay waits for the answer in place of the caller that left, and closes the
// connection.
func (l *line) outstay() {
	l.questions.staying.Add(1)
	defer l.questions.staying.Add(-1)
	defer close(l.over)
	l.Conn.SetDeadline(time.Now().Add(l.questions.timeout))
	var b [64]byte
	l.Conn.Read(b[:]) // the first byte tells that the question was dealt with
	l.stop()
	l.Conn.Close()
}

// Close closes the connection, when nothing is to be expected from it any more.
// One that ends before anything was read from it was not worth dialling for,
// which the gate should know.
func (l *line) Close() error {
	l.mu.Lock()
	left := l.left
	l.left = false // only once
	l.mu.Unlock()
	if left {
		if !l.questions.background(l.outstay) {
			l.outstay() // its connection is closed already
		}
		return nil
	}
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
