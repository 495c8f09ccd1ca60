package watch

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Config says who this peer is and how it reaches others. Self, Dial, Know and
// On are required.
type Config struct {
	// Self is this peer's ID.
	Self uint64
	// Label is the cluster's. Streams of another label are strangers.
	Label string
	// Keys returns the MAC keys in force; the first signs what this side dials. An
	// empty key stands for the label alone, and so does an empty slice. It is
	// called once for each handshake, from any goroutine.
	Keys func() [][]byte
	// Dial opens a connection. ctx ends when the dial has taken too long.
	Dial func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	// Versions are the lowest and the highest wire version to speak. Default:
	// Version, Version.
	Versions [2]byte
	// Know reports whether a stream from this ID may be kept. It is called from
	// the goroutines that accept. Every other ID gets a goodbye.
	Know func(id uint64) bool
	// On takes evidence. It is called from the goroutines of streams and dials,
	// several at a time, without a lock held. It must not block for long, since
	// its stream is not read meanwhile, and must not call Leave or Close.
	On func(Event)
	// Logger takes debug lines. Default: none.
	Logger hclog.Logger
}

func (c Config) withDefaults() Config {
	if c.Keys == nil {
		c.Keys = func() [][]byte { return nil }
	}
	if c.Versions == [2]byte{} {
		c.Versions = [2]byte{Version, Version}
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	return c
}

// Watcher holds the streams. It has one goroutine for each stream that is read,
// one for each dial under way and one for each last word being written. Its
// methods may be called from any goroutine, Beat from one at a time.
type Watcher struct {
	cfg   Config
	log   hclog.Logger
	start time.Time // what peer.heard and stream.beats count from

	strangers atomic.Uint64
	beating   []*stream // Beat's, kept for its capacity

	life context.Context // ends with Close; dials and waits end with it
	end  context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	left   bool
	peers  map[uint64]*peer
	conns  map[net.Conn]struct{} // to close at the end; those with a last word under way excepted
}

// peer is somebody with a stream or a dial under way.
type peer struct {
	id    uint64
	heard atomic.Int64 // since Watcher.start, of the last authenticated byte

	// Watcher.mu guards all below.
	out, in *stream
	dials   []*attempt
}

// New returns a Watcher without streams. It starts nothing.
func New(cfg Config) *Watcher {
	w := &Watcher{
		start: time.Now(),
		peers: map[uint64]*peer{},
		conns: map[net.Conn]struct{}{},
	}
	w.cfg = cfg.withDefaults()
	w.log = w.cfg.Logger
	w.life, w.end = context.WithCancel(context.Background())
	return w
}

// Beat writes one beat on every outbound stream, and on all streams what could
// not be written before. The owner calls it every 750 ms. A peer that does not
// read holds up nobody: on a socket what the kernel does not take at once is
// written with the next beat, elsewhere after 20 ms, and no beat is written while
// 16 are without their echo.
func (w *Watcher) Beat() {
	w.mu.Lock()
	for _, p := range w.peers {
		for _, s := range [...]*stream{p.out, p.in} {
			if s != nil {
				w.beating = append(w.beating, s)
			}
		}
	}
	w.mu.Unlock()
	for _, s := range w.beating {
		if !s.out || !s.beat(w.now()) {
			s.retry()
		}
	}
	clear(w.beating)
	w.beating = w.beating[:0]
}

// Links appends one Link for each peer with a stream, in the order of their IDs.
func (w *Watcher) Links(dst []Link) []Link {
	now, first := w.now(), len(dst)
	w.mu.Lock()
	for _, p := range w.peers {
		if p.out == nil && p.in == nil {
			continue
		}
		l := Link{Peer: p.id, Heard: w.start.Add(time.Duration(p.heard.Load())), Out: p.out != nil, In: p.in != nil}
		if l.Out {
			l.Pending = p.out.pending(now)
		}
		dst = append(dst, l)
	}
	w.mu.Unlock()
	slices.SortFunc(dst[first:], func(a, b Link) int { return cmp.Compare(a.Peer, b.Peer) })
	return dst
}

// Strangers returns how many streams were closed because no key in force signed
// what came on them.
func (w *Watcher) Strangers() uint64 { return w.strangers.Load() }

// Hang ends the streams of a peer with a last word, Goodbye or Leaving, and
// gives up the dials to it. It does not wait for the word to be written.
func (w *Watcher) Hang(id uint64, last byte) {
	w.hang(id, func(p *peer) []*stream {
		both := []*stream{p.out, p.in}
		p.out, p.in = nil, nil
		return both
	}, last, true)
}

// HangOut ends the outbound stream of a peer with a goodbye and gives up the
// dials that would bring one. Probes go on.
func (w *Watcher) HangOut(id uint64) {
	w.hang(id, func(p *peer) []*stream {
		out := p.out
		p.out = nil
		return []*stream{out}
	}, Goodbye, false)
}

func (w *Watcher) hang(id uint64, cut func(*peer) []*stream, last byte, probes bool) {
	w.mu.Lock()
	p := w.peers[id]
	if p == nil || w.closed {
		w.mu.Unlock()
		return
	}
	given := p.giveUp(probes)
	for _, s := range cut(p) {
		w.finish(s, last, nil)
	}
	w.tidy(p)
	w.mu.Unlock()
	closeAll(given)
}

// Leave says on every stream that this peer leaves, and returns when it is said
// or, after 20 ms, could not be. From then on no dial begins, and whoever opens
// a stream is told the same.
func (w *Watcher) Leave() {
	var said sync.WaitGroup
	w.mu.Lock()
	if w.left || w.closed {
		w.mu.Unlock()
		return
	}
	w.left = true
	var given []net.Conn
	for _, p := range w.peers {
		for _, a := range p.dials {
			if a.confirmed {
				said.Add(1)
				a.said = &said
			}
		}
		given = append(given, p.giveUp(true)...)
		w.finish(p.out, Leaving, &said)
		w.finish(p.in, Leaving, &said)
		p.out, p.in = nil, nil
		w.tidy(p)
	}
	w.mu.Unlock()
	closeAll(given)
	said.Wait()
}

// Close ends every stream without a word, and returns when the last goroutine
// has ended. Last words under way are still written.
func (w *Watcher) Close() {
	w.mu.Lock()
	w.closed = true
	conns := make([]net.Conn, 0, len(w.conns))
	for c := range w.conns {
		conns = append(conns, c)
	}
	w.mu.Unlock()
	w.end()
	closeAll(conns)
	w.wg.Wait()
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		c.Close()
	}
}

func (w *Watcher) now() int64 { return int64(time.Since(w.start)) }

// hold takes conn in, to be closed with the Watcher. It reports false when that
// is closed already.
func (w *Watcher) hold(conn net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.conns[conn] = struct{}{}
	}
	return !w.closed
}

// drop closes conn.
func (w *Watcher) drop(conn net.Conn) {
	conn.Close()
	w.mu.Lock()
	delete(w.conns, conn)
	w.mu.Unlock()
}

// The helpers below are called with w.mu held.

// peer returns the entry of id, a new one if there is none.
func (w *Watcher) peer(id uint64) *peer {
	p := w.peers[id]
	if p == nil {
		p = &peer{id: id}
		w.peers[id] = p
	}
	return p
}

// tidy forgets p when it has neither a stream nor a dial under way.
func (w *Watcher) tidy(p *peer) {
	if p.out == nil && p.in == nil && len(p.dials) == 0 {
		delete(w.peers, p.id)
	}
}
