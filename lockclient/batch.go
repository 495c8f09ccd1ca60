package lockclient

import (
	"context"
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
// nothing. It has no goroutine: the first in the queue sends for all.
type batcher struct {
	rdb redis.UniversalClient

	mu    sync.Mutex
	busy  int // slots taken
	queue []*batched
}

type batched struct {
	cmd  redis.Cmder
	lead chan []*batched // the batch that this one has to send, itself first
	done chan struct{}   // closed when another has sent it
}

// process runs cmd, whose outcome is in it, and returns its error. ctx must have
// no end: a batch cannot be left.
func (b *batcher) process(ctx context.Context, cmd redis.Cmder) error {
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
			b.send(ctx, batch)
			b.next()
			return cmd.Err()
		case <-late:
			b.push(me)
		}
	}
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

func (b *batcher) send(ctx context.Context, batch []*batched) {
	if len(batch) == 1 {
		b.rdb.Process(ctx, batch[0].cmd)
		return
	}
	pipe := b.rdb.Pipeline()
	for _, j := range batch {
		pipe.Process(ctx, j.cmd)
	}
	pipe.Exec(ctx) // each command has its own error
	for _, j := range batch[1:] {
		close(j.done)
	}
}
