package lockclient

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// batchSlots is how many calls or batches are under way at one time before
	// those that come queue up for the next batch.
	batchSlots = 2
	// maxBatch bounds one batch, and with it what a slow script costs the rest.
	maxBatch = 64
	// batchBelow is the round trip up to which batching pays: a call waits for
	// a slot about that long, and saves its own way through the kernels.
	batchBelow = 2 * time.Millisecond
	// batchPatience is how long the first in the queue waits for a slot: those
	// under way are stuck then, on connections that may be dead.
	batchPatience = 50 * time.Millisecond
)

// A batcher sends what many goroutines ask at the same time together: as long as
// no more than batchSlots calls are under way, each goes by itself and pays
// nothing. The first in the queue sends for all.
//
// Goroutine: one for a batch whose first caller has left, until it is done with.
type batcher struct {
	rdb        redis.UniversalClient
	background func(f func()) bool // the client's

	mu    sync.Mutex
	busy  int // slots taken
	queue []*batched
}

type batched struct {
	cmd  redis.Cmder
	lead chan []*batched // the batch that this one has to send, itself first
	done chan struct{}   // closed when somebody else has sent it
}

// process runs cmd, whose outcome is in it, and returns its error. ctx must have
// no end, or be the question q: a batch cannot be left, but who waits for one can
// go.
func (b *batcher) process(ctx context.Context, q *question, cmd redis.Cmder) error {
	b.mu.Lock()
	if b.busy < batchSlots {
		b.busy++
		b.mu.Unlock()
		err := b.rdb.Process(ctx, cmd)
		b.next()
		return err
	}
	me := &batched{cmd: cmd, lead: make(chan []*batched, 1), done: make(chan struct{})}
	b.queue = append(b.queue, me)
	var late <-chan time.Time
	if len(b.queue) == 1 {
		t := time.NewTimer(batchPatience)
		defer t.Stop()
		late = t.C
	}
	b.mu.Unlock()
	for {
		select {
		case <-me.done:
			return cmd.Err()
		case batch := <-me.lead:
			b.send(ctx, q, batch)
			b.next()
			return cmd.Err()
		case <-late:
			b.push(me)
		case <-ctx.Done():
			if !b.withdraw(me) {
				q.ended = me.done
			}
			return errLeft
		}
	}
}

// full reports whether a call would have to wait for others.
func (b *batcher) full() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.busy >= batchSlots
}

// carry sends a batch whose first caller has gone.
func (b *batcher) carry(batch []*batched) {
	b.send(context.Background(), nil, batch)
	close(batch[0].done)
	b.next()
}

// withdraw takes me out of the queue, or says that it is not there any more. Who
// has a batch to send has it sent by somebody else.
func (b *batcher) withdraw(me *batched) bool {
	b.mu.Lock()
	i := slices.Index(b.queue, me)
	if i >= 0 {
		b.queue = slices.Delete(b.queue, i, i+1)
	}
	if i == 0 && len(b.queue) > 0 {
		// Somebody else is the first now, and does not know it.
		first := b.queue[0]
		time.AfterFunc(batchPatience, func() { b.push(first) })
	}
	b.mu.Unlock()
	if i >= 0 {
		return true
	}
	select {
	case batch := <-me.lead:
		if !b.background(func() { b.carry(batch) }) {
			b.carry(batch)
		}
	default: // it is sent by another one, or has been
	}
	return false
}

// push gives me a slot beyond batchSlots, unless it has one by now.
func (b *batcher) push(me *batched) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) > 0 && b.queue[0] == me {
		b.busy++
		b.hand()
	}
}

// next gives the slot of a call that has ended to the first in the queue, with
// all that queue behind it.
func (b *batcher) next() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		b.busy--
		return
	}
	b.hand()
}

// hand gives a slot to the first in the queue. The caller holds b.mu.
func (b *batcher) hand() {
	n := min(len(b.queue), maxBatch)
	batch := b.queue[:n:n]
	b.queue = b.queue[n:]
	batch[0].lead <- batch
}

// send sends a batch; ctx is Background, or the question q of its first caller.
// When that one leaves, the others ask again, but not before it is known that
// nothing comes of what they asked.
func (b *batcher) send(ctx context.Context, q *question, batch []*batched) {
	if len(batch) == 1 {
		b.rdb.Process(ctx, batch[0].cmd)
		return
	}
	pipe := b.rdb.Pipeline()
	for _, j := range batch {
		pipe.Process(ctx, j.cmd)
	}
	pipe.Exec(ctx) // each command has its own error
	tell := func() {
		for _, j := range batch[1:] {
			close(j.done)
		}
	}
	if q != nil && q.left.Load() {
		if l := q.line.Load(); l != nil {
			if over := l.outstayed(); over != nil && b.background(func() { <-over; tell() }) {
				return
			}
		}
	}
	tell()
}
