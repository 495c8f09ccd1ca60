package lockclient

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
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
// nothing. The first in the queue sends for all: takes and releases as one script,
// which saves the server what each costs it before it begins, and anything else
// as a pipeline.
//
// Goroutines: one for a batch whose first caller can leave, until it is done with,
// and one for each that left while its batch was under way, until that is over.
type batcher struct {
	rdb        redis.UniversalClient
	background func(f func()) bool // the client's
	teach      func()              // the client's
	apart      atomic.Bool         // the server wants no script for several locks

	mu    sync.Mutex
	busy  int // slots taken
	queue []*batched
}

type batched struct {
	cmd redis.Cmder
	// turn brings the batch that this one has to send, itself first; or nil when
	// somebody else has sent it.
	turn chan []*batched
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
	me := &batched{cmd: cmd, turn: make(chan []*batched, 1)}
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
		case batch := <-me.turn:
			switch {
			case batch == nil:
				return cmd.Err()
			case q == nil || len(batch) == 1:
				b.send(ctx, batch)
				b.next()
				return cmd.Err()
			}
			// A batch belongs to nobody: it goes on when its first caller leaves.
			b.aside(func() { b.carry(batch) })
		case <-late:
			b.push(me)
		case <-ctx.Done():
			if !b.withdraw(me) {
				ended := make(chan struct{})
				q.ended = ended
				b.aside(func() {
					<-me.turn
					close(ended)
				})
			}
			return errLeft
		}
	}
}

// aside runs f in the background, or here when the client closes.
func (b *batcher) aside(f func()) {
	if !b.background(f) {
		f()
	}
}

// full reports whether a call would have to wait for others.
func (b *batcher) full() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.busy >= batchSlots
}

// carry sends a batch whose first caller waits for the outcome, or has left.
func (b *batcher) carry(batch []*batched) {
	b.send(context.Background(), batch)
	batch[0].turn <- nil
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
	case batch := <-me.turn:
		if batch == nil {
			me.turn <- nil // for who waits for its end
		} else {
			b.aside(func() { b.carry(batch) })
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
	batch[0].turn <- batch
}

// send sends a batch. ctx is Background, but for one that is alone in it.
func (b *batcher) send(ctx context.Context, batch []*batched) {
	if len(batch) == 1 {
		b.rdb.Process(ctx, batch[0].cmd)
		return
	}
	if rest := b.sendScript(ctx, batch); len(rest) > 0 {
		pipe := b.rdb.Pipeline()
		for _, j := range rest {
			pipe.Process(ctx, j.cmd)
		}
		pipe.Exec(ctx) // each command has its own error
	}
	for _, j := range batch[1:] {
		j.turn <- nil
	}
}

// sendScript sends a batch as one script, and returns those that have to be sent
// in another way.
func (b *batcher) sendScript(ctx context.Context, batch []*batched) []*batched {
	if _, single := b.rdb.(*redis.Client); !single || b.apart.Load() {
		return batch // in a cluster each lock has a place of its own
	}
	letters := make([]byte, len(batch))
	args := make([]any, argKeys, argKeys+1+len(batch)*(argOwn+1))
	own := make([]any, 0, 2*len(batch))
	var last []any // the arguments of the last acquire
	args[0], args[1], args[2] = "evalsha", &batchScript.hash, len(batch)*len(keys{})
	for i, j := range batch {
		a := j.cmd.Args()
		switch a[1] {
		case any(&acquireScript.hash):
			letters[i] = 'a'
			if last != nil && sameStrings(last[argOwn+1:], a[argOwn+1:]) {
				letters[i], a = 'A', a[:argOwn+1]
			} else {
				last = a
			}
		case any(&releaseScript.hash):
			letters[i] = 'r'
		default:
			return batch
		}
		args = append(args, a[argKeys:argOwn]...)
		own = append(own, a[argOwn:]...)
	}
	cmd := redis.NewSliceCmd(ctx, append(append(args, letters), own...)...)
	err := b.rdb.Process(ctx, cmd)
	if _, replied := err.(redis.Error); replied {
		switch {
		case redis.HasErrorPrefix(err, "NOSCRIPT"):
			b.teach()
		case redis.HasErrorPrefix(err, "CROSSSLOT"):
			b.apart.Store(true)
		}
		return batch
	}
	if err != nil || len(cmd.Val()) != len(batch) {
		for _, j := range batch {
			j.cmd.SetErr(cmp.Or(err, errReply(batchScript, cmd.Val())))
		}
		return nil
	}
	var rest []*batched
	for i, v := range cmd.Val() {
		switch v := v.(type) {
		case string:
			batch[i].cmd.(*redis.StringCmd).SetVal(v)
		case int64:
			batch[i].cmd.(*redis.StringCmd).SetVal(strconv.FormatInt(v, 10))
		default:
			rest = append(rest, batch[i])
		}
	}
	return rest
}

// sameStrings reports whether a and b, of pointers to strings, say the same.
func sameStrings(a, b []any) bool {
	return slices.EqualFunc(a, b, func(a, b any) bool { return *a.(*string) == *b.(*string) })
}
