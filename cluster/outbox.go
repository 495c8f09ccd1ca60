package cluster

import (
	"net/netip"
	"sync"

	"github.com/hashicorp/memberlist"
)

// outbox sends what the owner wants sent: it takes any number of messages without
// blocking, and one goroutine sends them. Datagrams may be lost anyway, so the
// oldest are dropped when the network takes none.

const outboxMost = 16_384

// destination is one start of a peer, as memberlist addresses it.
type destination struct {
	name string // NAME#INSTANCE
	addr netip.AddrPort
}

func (d destination) node() *memberlist.Node {
	return &memberlist.Node{Name: d.name, Addr: d.addr.Addr().AsSlice(), Port: d.addr.Port()}
}

type letter struct {
	to    []destination
	frame []byte
}

type outbox struct {
	mu     sync.Mutex
	cond   *sync.Cond
	queue  []letter
	busy   bool
	closed bool

	gossip *memberlist.TransmitLimitedQueue
}

func newOutbox(gossip *memberlist.TransmitLimitedQueue) *outbox {
	o := &outbox{gossip: gossip}
	o.cond = sync.NewCond(&o.mu)
	return o
}

// send queues frame for each of to, and for gossip under owner: a later frame of
// the same owner takes its place.
func (o *outbox) send(to []destination, gossip bool, frame []byte, owner string) {
	if frame == nil {
		return
	}
	if gossip {
		o.gossip.QueueBroadcast(broadcast{owner: owner, frame: frame}) // a lock of its own; it calls nothing back
	}
	if len(to) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	if len(o.queue) >= outboxMost {
		o.queue = o.queue[1:]
	}
	o.queue = append(o.queue, letter{to, frame})
	o.cond.Broadcast()
}

// run sends until close.
func (o *outbox) run(send func(*memberlist.Node, []byte) error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		for len(o.queue) == 0 && !o.closed {
			o.busy = false
			o.cond.Broadcast()
			o.cond.Wait()
		}
		if o.closed {
			return
		}
		batch := o.queue
		o.queue, o.busy = nil, true
		o.mu.Unlock()
		for _, l := range batch {
			for _, d := range l.to {
				_ = send(d.node(), l.frame) // lost, as any datagram
			}
		}
		o.mu.Lock()
	}
}

// flush returns when all that was queued is sent, or the outbox is closed.
func (o *outbox) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for (len(o.queue) > 0 || o.busy) && !o.closed {
		o.cond.Wait()
	}
}

func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.cond.Broadcast()
}

// broadcast is one frame in the gossip queue; a newer one of the same owner takes
// its place.
type broadcast struct {
	owner string
	frame []byte
}

func (b broadcast) Name() string    { return b.owner }
func (b broadcast) Message() []byte { return b.frame }
func (b broadcast) Finished()       {}
func (b broadcast) Invalidates(o memberlist.Broadcast) bool {
	n, ok := o.(memberlist.NamedBroadcast)
	return ok && n.Name() == b.owner
}
