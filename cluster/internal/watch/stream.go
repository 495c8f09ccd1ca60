package watch

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The types of frames. Goodbye and Leaving are last words, for Hang.
const (
	frameBeat = 'b'
	frameEcho = 'e'

	// Goodbye ends a stream that is no longer wanted, and is no offence.
	Goodbye byte = 'G'
	// Leaving ends a stream because this peer leaves the cluster.
	Leaving byte = 'L'
)

const (
	// silence is the gap after which a byte is news, and makes an event.
	silence = time.Second
	// writeLimit bounds a write to a peer that does not read and whose buffer is
	// full, where there is no way to write without waiting. A healthy kernel takes a
	// frame at once.
	writeLimit = 20 * time.Millisecond
	// userLimit is how long sent bytes may stay unacknowledged: after an outage TCP
	// would retransmit ever more slowly and the stream stay mute for minutes.
	userLimit = 2500 * time.Millisecond
	// maxPending is how many beats may wait for their echo. At a beat every 750 ms
	// it is reached after 12 s, long after the owner has dialled anew; it keeps a
	// stopped peer from filling its buffer.
	maxPending = 16
)

// stream is one live stream.
type stream struct {
	conn net.Conn
	peer *peer // set by the Watcher before anybody else sees the stream
	out  bool  // dialled by this side

	over bool // Watcher.mu guards it: this side is done with the stream, its end is no evidence

	// Beats are counted by who writes them, echoes by who reads them. Beat n was
	// written at beats[n%maxPending], counted from Watcher.start.
	sent, echoed atomic.Uint64
	beats        [maxPending]atomic.Int64

	// reader's own
	opener half
	buf    [maxPending * frameSize]byte

	// write orders those that write: the beat or the echo, and the last word.
	// Nobody else waits for it.
	write  sync.Mutex
	sealer half
	now    *atOnce // nil if conn is no socket
	unsent []byte  // frames, the first may be half written
}

func newStream(conn net.Conn, out bool, sealer, opener half) *stream {
	setUserTimeout(conn, userLimit)
	return &stream{conn: conn, out: out, sealer: sealer, opener: opener, now: newAtOnce(conn), unsent: make([]byte, 0, (maxPending+1)*frameSize)}
}

// send writes a frame, behind what could not be written before. It reports
// false when the peer has not read for so long that there is no room.
func (s *stream) send(typ byte) bool {
	s.write.Lock()
	defer s.write.Unlock()
	if len(s.unsent)+frameSize > cap(s.unsent) {
		return false
	}
	s.unsent = s.sealer.append(s.unsent, typ)
	s.flush()
	return true
}

// flush writes what is unsent, as far as the socket takes it. It runs with
// write held.
func (s *stream) flush() {
	if len(s.unsent) == 0 {
		return
	}
	n := 0
	if s.now != nil {
		n = s.now.write(s.unsent)
	} else {
		_ = s.conn.SetWriteDeadline(time.Now().Add(writeLimit))
		n, _ = s.conn.Write(s.unsent)
		_ = s.conn.SetWriteDeadline(time.Time{}) // or its timer wakes the process for nothing
	}
	s.unsent = s.unsent[:copy(s.unsent, s.unsent[n:])]
}

// beat writes a beat. It reports false when too many wait for their echo.
func (s *stream) beat(now int64) bool {
	n := s.sent.Load()
	if n-s.echoed.Load() >= maxPending {
		return false
	}
	s.beats[n%maxPending].Store(now)
	s.sent.Store(n + 1)
	s.send(frameBeat)
	return true
}

// retry writes what could not be written before.
func (s *stream) retry() {
	s.write.Lock()
	defer s.write.Unlock()
	s.flush()
}

// echo books the answer to the oldest beat that waits for one.
func (s *stream) echo() {
	if n := s.echoed.Load(); n < s.sent.Load() {
		s.echoed.Store(n + 1)
	}
}

// pending returns how long the oldest beat has been without its echo.
func (s *stream) pending(now int64) time.Duration {
	n := s.echoed.Load()
	if n == s.sent.Load() {
		return 0
	}
	// At least a nanosecond: a beat of this very instant waits, too.
	return time.Duration(max(now-s.beats[n%maxPending].Load(), 1))
}

// take makes s the outbound stream that a has brought.
func (w *Watcher) take(s *stream, a *attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.settle(a)
	switch {
	case w.closed:
		w.finish(s, 0, nil)
	case a.hung:
		w.finish(s, w.word(), a.said)
	default:
		w.slot(s, a.peer)
	}
}

// keep makes s the inbound stream of a peer that is known, or ends it.
func (w *Watcher) keep(s *stream, from uint64, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		w.finish(s, 0, nil)
	case w.left || !known:
		w.finish(s, w.word(), nil)
	default:
		w.slot(s, w.peer(from))
	}
}

// word is the last one for a stream that is not wanted. w.mu is held.
func (w *Watcher) word() byte {
	if w.left {
		return Leaving
	}
	return Goodbye
}

// slot puts s in the place of an older stream of its direction and reads it.
// w.mu is held.
func (w *Watcher) slot(s *stream, p *peer) {
	s.peer = p
	p.heard.Store(w.now()) // a finished handshake
	old := &p.in
	if s.out {
		old = &p.out
	}
	w.finish(*old, Goodbye, nil)
	*old = s
	w.wg.Go(func() { w.read(s) })
}

// finish ends s, which may be nil, with a last word, 0 for none. A full buffer
// must not hold up the caller, so another goroutine writes it. w.mu is held.
func (w *Watcher) finish(s *stream, last byte, said *sync.WaitGroup) {
	if s == nil {
		return
	}
	s.over = true
	delete(w.conns, s.conn)
	if said != nil {
		said.Add(1)
	}
	w.wg.Go(func() {
		if last != 0 {
			s.send(last)
		}
		s.conn.Close()
		if said != nil {
			said.Done()
		}
	})
}

// errStalled ends a stream whose other end sends and does not read.
var errStalled = errors.New("the other side does not read")

// read reads s until it ends.
func (w *Watcher) read(s *stream) {
	w.cfg.On(Event{Peer: s.peer.id, Kind: Up, Out: s.out})
	e := Event{Peer: s.peer.id, Out: s.out}
	e.Kind, e.Err = w.frames(s)
	if w.unslot(s, e.Kind == Left) && e.Kind != 0 {
		w.log.Debug("stream ended", "member", memberID(e.Peer), "addr", s.conn.RemoteAddr(), "cause", e.Kind, "err", e.Err)
		w.cfg.On(e)
	}
}

// frames takes in what comes on s until its end, and returns what that end is
// evidence of, 0 for nothing.
func (w *Watcher) frames(s *stream) (Kind, error) {
	have := 0
	for {
		n, err := s.conn.Read(s.buf[have:])
		have += n
		b := s.buf[:have]
		for ; len(b) >= frameSize; b = b[frameSize:] {
			typ, ok := s.opener.open(b)
			if !ok {
				w.strangers.Add(1)
				return 0, ErrStranger
			}
			now := w.now()
			gap := now - s.peer.heard.Swap(now)
			switch typ {
			case frameBeat:
				if !s.send(frameEcho) {
					return Broke, errStalled
				}
			case frameEcho:
				s.echo()
			case Goodbye:
				return 0, nil
			case Leaving:
				return Left, nil
			}
			if gap >= int64(silence) && w.wanted(s) {
				w.cfg.On(Event{Peer: s.peer.id, Kind: Heard, Out: s.out})
			}
		}
		have = copy(s.buf[:], b)
		if err != nil {
			return Broke, err
		}
	}
}

func (w *Watcher) wanted(s *stream) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !s.over
}

// unslot closes s, and with both its peer's other stream. It reports whether s
// was still wanted.
func (w *Watcher) unslot(s *stream, both bool) bool {
	w.mu.Lock()
	wanted := !s.over && !w.closed
	ended := []net.Conn{s.conn}
	if p := s.peer; !s.over {
		for _, slot := range []**stream{&p.out, &p.in} {
			if t := *slot; t != nil && (t == s || both) {
				t.over = true
				*slot = nil
				delete(w.conns, t.conn)
				ended = append(ended, t.conn)
			}
		}
		w.tidy(p)
	}
	w.mu.Unlock()
	closeAll(ended)
	return wanted
}

// setUserTimeout is best effort: fresh dials mend what it does not.
func setUserTimeout(conn net.Conn, d time.Duration) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return // not the real network
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { setSocketUserTimeout(int(fd), d) })
}
