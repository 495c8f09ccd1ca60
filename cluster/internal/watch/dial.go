package watch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// helloTimeout bounds a dial with its handshake and all its tries: a SYN that
	// was lost is sent again after a second.
	helloTimeout = 1500 * time.Millisecond
	// staleDial is the age from which a dial no longer keeps a second one from
	// beginning beside it: its first packet may be lost, and the kernel sends the
	// next after a second.
	staleDial = 250 * time.Millisecond
	// A dial that is reset is tried again: so it ends while the kernel still closes
	// the files of a dead process, and a few milliseconds later it is refused.
	// Without these tries the slowest detections took 472 ms instead of 25.
	redialWait = 5 * time.Millisecond
	redialMax  = 10
)

// attempt is a dial under way.
type attempt struct {
	peer   *peer
	to     netip.AddrPort
	probe  bool
	began  time.Time
	cancel context.CancelFunc

	// Watcher.mu guards all below.
	hung      bool            // nobody wants its outcome any more
	conn      net.Conn        // to close when it is given up; nil once the handshake is confirmed
	confirmed bool            // the other side may have a stream
	said      *sync.WaitGroup // that Leave waits for, if it does
}

// Dial opens a stream to a peer, or with probe only asks whether it is there. It
// returns at once; the outcome is an event. It does nothing while another dial
// to the peer is under way, unless that is older than 250 ms or only a probe
// where a stream is wanted.
func (w *Watcher) Dial(id uint64, to netip.AddrPort, probe bool) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.left {
		return
	}
	p := w.peer(id)
	for _, a := range p.dials {
		if now.Sub(a.began) < staleDial && (probe || !a.probe) {
			return
		}
	}
	ctx, cancel := context.WithTimeout(w.life, helloTimeout)
	a := &attempt{peer: p, to: to, probe: probe, began: now, cancel: cancel}
	p.dials = append(p.dials, a)
	w.wg.Go(func() { w.dial(ctx, a) })
}

// giveUp abandons the dials of p, with or without its probes, and returns the
// connections to close. The caller holds Watcher.mu.
func (p *peer) giveUp(probes bool) (conns []net.Conn) {
	p.dials = slices.DeleteFunc(p.dials, func(a *attempt) bool {
		if a.probe && !probes {
			return false
		}
		a.hung = true
		a.cancel()
		if a.conn != nil {
			conns = append(conns, a.conn)
		}
		return true
	})
	return conns
}

// dial runs an attempt to its end and reports the outcome.
func (w *Watcher) dial(ctx context.Context, a *attempt) {
	defer a.cancel()
	for try := 0; ; try++ {
		s, err := w.open(ctx, a)
		e := Event{Peer: a.peer.id, Kind: Failed, Err: err}
		switch {
		case err == nil && a.probe:
			e.Kind = Answered
		case err == nil:
			w.take(s, a)
			return
		case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, ErrInstance):
			e.Kind = Refused
		case try < redialMax && passing(err):
			t := time.NewTimer(redialWait)
			select {
			case <-t.C:
				continue
			case <-ctx.Done():
				t.Stop()
			}
		}
		if w.outcome(a) {
			w.log.Debug("dialled", "member", memberID(a.peer.id), "addr", a.to, "cause", e.Kind, "err", err)
			w.cfg.On(e)
		}
		return
	}
}

// passing reports whether another try may end otherwise.
func passing(err error) bool {
	var ne net.Error
	return !(errors.As(err, &ne) && ne.Timeout()) && !errors.Is(err, context.Canceled) &&
		!errors.Is(err, ErrStranger) && !errors.Is(err, ErrVersion)
}

// outcome ends an attempt that brought no stream, and reports whether anybody
// wants to know.
func (w *Watcher) outcome(a *attempt) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settle(a)
	return !a.hung && !w.closed
}

// settle removes a from the dials of its peer. The caller holds w.mu.
func (w *Watcher) settle(a *attempt) {
	if a.said != nil {
		a.said.Done()
		a.said = nil
	}
	p := a.peer
	if i := slices.Index(p.dials, a); i >= 0 {
		p.dials = slices.Delete(p.dials, i, i+1)
	}
	if w.peers[p.id] == p {
		w.tidy(p)
	}
}

// open dials and shakes hands. A probe returns no stream.
func (w *Watcher) open(ctx context.Context, a *attempt) (*stream, error) {
	conn, err := w.cfg.Dial(ctx, a.to)
	if err != nil {
		return nil, err
	}
	if !w.hold(conn) || !w.carry(a, conn) {
		w.drop(conn)
		return nil, context.Canceled
	}
	end, _ := ctx.Deadline()
	_ = conn.SetDeadline(end)
	s, err := w.greet(conn, a)
	if s == nil {
		w.carry(a, nil)
		w.drop(conn)
	}
	return s, err
}

// carry makes conn the one that is closed when a is given up, nil for none. It
// reports false when that has happened already.
func (w *Watcher) carry(a *attempt, conn net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	a.conn = conn
	return !a.hung
}

// confirm says that the other side will have a stream. It reports false when a was
// given up already.
func (w *Watcher) confirm(a *attempt) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	a.conn, a.confirmed = nil, !a.hung
	return a.confirmed
}

// greet is the dialler's half of the handshake.
func (w *Watcher) greet(conn net.Conn, a *attempt) (*stream, error) {
	key := w.secrets()[0]
	h := hello{versions: w.cfg.Versions, kind: kindWatch, from: w.cfg.Self, want: a.peer.id, nonce: newNonce()}
	if a.probe {
		h.kind = kindProbe
	}
	sent := h.encode(&key)
	if _, err := conn.Write(sent); err != nil {
		return nil, err
	}
	got, err := readMessage(conn, replyBody)
	if err != nil {
		return nil, err
	}
	r, err := parseReply(got, &key, sent)
	switch {
	case err != nil:
		w.strangers.Add(1)
		return nil, err
	case r.id != a.peer.id:
		return nil, fmt.Errorf("%w: %s", ErrInstance, memberID(r.id))
	case a.probe:
		return nil, nil
	case r.version == 0 || r.version != common(w.cfg.Versions, r.versions):
		return nil, versionError(w.cfg.Versions, r.versions)
	case !w.confirm(a):
		return nil, context.Canceled
	}
	if _, err := conn.Write(key.mac("confirm", sent, got)); err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return newStream(conn, true, key.half(fromDialler, h.nonce, r.nonce), key.half(fromAcceptor, h.nonce, r.nonce)), nil
}

// secrets returns those of the keys in force, the one that signs first.
func (w *Watcher) secrets() []secret {
	keys := w.cfg.Keys()
	if len(keys) == 0 {
		keys = [][]byte{nil}
	}
	out := make([]secret, len(keys))
	for i, k := range keys {
		out[i] = newSecret(k, w.cfg.Label)
	}
	return out
}

func memberID(id uint64) string { return fmt.Sprintf("%016x", id) }
