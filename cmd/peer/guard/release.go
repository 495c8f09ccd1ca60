//go:build unix

package guard

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// lastTry is how long a guard that was asked to end goes on trying to give a
// hold back.
const lastTry = 2 * time.Second

// heir gives the hold of a dead holder back. Its goroutine begins when the
// holder's pipe has ended, and ends with the hold or with the process.
type heir struct {
	dead     chan struct{}  // closed when nothing of the command is left
	released chan struct{}  // closed when the hold is over; nil while the holder has its pipe
	asked    chan os.Signal // TERM, to this process
}

func newHeir() *heir {
	h := &heir{dead: make(chan struct{}), asked: make(chan os.Signal, 1)}
	if !signal.Ignored(syscall.SIGTERM) {
		signal.Notify(h.asked, syscall.SIGTERM)
	}
	return h
}

// inherit begins what has to be done when the holder is dead. The caller has
// seen the end of the holder's pipe. That alone is not enough: a process closes
// its files before it is gone, and its children get another parent then.
func (s *supervisor) inherit() {
	if s.cmd.Hold.IsZero() {
		return
	}
	h := s.heir
	h.released = make(chan struct{})
	go func() {
		defer close(h.released)
		for os.Getppid() == s.cmd.Holder {
			time.Sleep(time.Millisecond)
		}
		_ = s.cmd.Hold.Release(context.Background(), h.dead) // nobody is left to hear of an error
	}()
}

// settle runs when nothing of the command is left. It waits for the holder to
// have done with its hold, or to die: then it gives the hold back. A holder that
// is stopped has done neither.
func (s *supervisor) settle(orders <-chan order) {
	if s.cmd.Hold.IsZero() {
		return
	}
	s.tell(report{Kind: reportGone})
	leaveFiles() // also while the holder takes its time
	for s.heir.released == nil {
		o, ok := <-orders
		switch {
		case !ok:
			s.inherit()
		case o.Kind == orderDismiss:
			return
		}
	}
	s.bequeath()
}

// bequeath gives back the hold of a holder that is gone, as is the command.
func (s *supervisor) bequeath() {
	if s.heir.released == nil {
		return
	}
	leaveFiles()
	close(s.heir.dead)
	select {
	case <-s.heir.released:
	case <-s.heir.asked:
		select {
		case <-s.heir.released:
		case <-time.After(lastTry):
		}
	}
}

// leaveFiles lets go of the files that this process was started with: one that
// reads what the command writes must not wait for a guard that waits for Redis.
func leaveFiles() {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer null.Close()
	for fd := range 3 {
		_ = replaceFile(int(null.Fd()), fd)
	}
}
