package lockclient

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Info is what Redis knows of a lock.
type Info struct {
	Name      string
	Holder    *Holder       // nil when nobody holds it; of several that share it, the first to end
	Holders   []Holder      // all
	Shared    bool          // they share it
	Fence     uint64        // of the last grant; 0 if there never was one
	TTL       time.Duration // Holder's time to live
	ExpiresIn time.Duration // until Holder's hold ends unless it is renewed
	Waiters   []Waiter      // in order
}

// A Waiter has a place in a lock's queue.
type Waiter struct {
	Node     string
	PID      int
	Command  string // without arguments
	Shared   bool   // it would share the lock
	Position int    // from 1
}

// Inspect tells who holds and who waits for the lock name. Nobody does: that is
// no error.
func (c *Client) Inspect(ctx context.Context, name string) (Info, error) {
	if err := checkName(name); err != nil {
		return Info{}, fmt.Errorf("inspect lock: %w", err)
	}
	info, _, err := detach(c, ctx, func(ctx context.Context) (Info, error) { return c.inspect(ctx, name) })
	if err != nil {
		return Info{}, fmt.Errorf("inspect lock %q: %w", name, err)
	}
	return info, nil
}

func (c *Client) inspect(ctx context.Context, name string) (Info, error) {
	k := lockKeys(c.cfg.Prefix, name)
	reply, err := c.runSlice(ctx, c.calls, inspectScript, arguments(&k, 0))
	if err != nil {
		return Info{}, err
	}
	info, ok := decodeInfo(name, reply)
	if !ok {
		return Info{}, errReply(inspectScript, reply)
	}
	return info, nil
}

func decodeInfo(name string, reply []any) (Info, bool) {
	if len(reply) < 2 || len(reply)%2 == 1 {
		return Info{}, false
	}
	fence, ok1 := reply[0].(string)
	holders, ok2 := reply[1].(int64)
	if !ok1 || !ok2 || holders < 0 || holders > int64(len(reply)/2-1) {
		return Info{}, false
	}
	info := Info{Name: name}
	info.Fence, _ = decodeFence(fence)
	if !info.addHolders(reply[2 : 2+2*holders]) {
		return Info{}, false
	}
	for pair := range slices.Chunk(reply[2+2*holders:], 2) {
		id, ok1 := pair[0].(string)
		record, ok2 := pair[1].(string)
		if !ok1 || !ok2 {
			return Info{}, false
		}
		if w, ok := decodeWaiter(id, record); ok {
			w.Position = len(info.Waiters) + 1
			info.Waiters = append(info.Waiters, w)
		}
	}
	return info, true
}

// addHolders reads pairs of value and pttl.
func (i *Info) addHolders(pairs []any) bool {
	for pair := range slices.Chunk(pairs, 2) {
		s, ok1 := pair[0].(string)
		pttl, ok2 := pair[1].(int64)
		if !ok1 || !ok2 {
			return false
		}
		v, ok := decodeValue(s)
		if !ok {
			v.holder.Node = "another program"
		}
		if i.Holder == nil {
			i.Holder, i.TTL, i.ExpiresIn = &v.holder, v.ttl, max(remaining(pttl), 0)
		}
		i.Shared = v.shared
		i.Holders = append(i.Holders, v.holder)
	}
	return true
}

// List returns all locks that are held or waited for, sorted by name. It walks
// the keys of the whole Redis in steps, which blocks nobody, and asks about two
// hundred locks in a round trip.
func (c *Client) List(ctx context.Context) ([]Info, error) {
	infos, _, err := detach(c, ctx, c.list)
	if err != nil {
		return nil, fmt.Errorf("list locks: %w", err)
	}
	return infos, nil
}

func (c *Client) list(ctx context.Context) ([]Info, error) {
	names := map[string]bool{}
	pattern := globEscaper.Replace(c.cfg.Prefix) + "{*"
	err := c.scan(ctx, pattern, func(key string) {
		if name, ok := nameOf(c.cfg.Prefix, key); ok && !strings.HasSuffix(key, "}:f") {
			names[name] = true
		}
	})
	if err != nil {
		return nil, err
	}
	infos, err := c.inspectAll(ctx, slices.Sorted(maps.Keys(names)))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(infos, func(i Info) bool { return i.Holder == nil && len(i.Waiters) == 0 }), nil
}

// inspectBatch is how many locks one pipeline asks about: five round trips for a
// thousand, and after a few milliseconds the server looks at what others ask.
const inspectBatch = 200

// inspectAll is inspect for many locks.
func (c *Client) inspectAll(ctx context.Context, names []string) ([]Info, error) {
	infos := make([]Info, 0, len(names))
	for part := range slices.Chunk(names, inspectBatch) {
		replies := make([]*redis.SliceCmd, len(part))
		err := c.inspectTogether(ctx, part, replies)
		c.heard(ctx, err)
		if err != nil {
			return nil, err
		}
		for i, name := range part {
			info := Info{Name: name}
			if replies[i].Err() != nil { // something else is at one of its keys
				info.addHolders([]any{"", int64(-1)})
			} else {
				var ok bool
				if info, ok = decodeInfo(name, replies[i].Val()); !ok {
					return nil, errReply(inspectScript, replies[i].Val())
				}
			}
			infos = append(infos, info)
		}
	}
	return infos, nil
}

// inspectTogether asks about names in one pipeline, and once more about those that
// did not come through: with the script's source, which that server may not know.
// What is left in replies is an answer, or a wrong type.
func (c *Client) inspectTogether(ctx context.Context, names []string, replies []*redis.SliceCmd) error {
	var failed error
	for attempt := range resend {
		failed = nil
		pipe := c.calls.Pipeline()
		for i, name := range names {
			if replies[i] != nil && replies[i].Err() == nil {
				continue
			}
			k := lockKeys(c.cfg.Prefix, name)
			args := arguments(&k, 0)
			args[1] = &inspectScript.hash
			if attempt > 0 {
				args = inspectScript.withSource(args)
			}
			replies[i] = redis.NewSliceCmd(ctx, args...)
			pipe.Process(ctx, replies[i])
		}
		pipe.Exec(ctx) // each command has its own error
		for i := range replies {
			err := replies[i].Err()
			again := err != nil && (broken(err) || redis.HasErrorPrefix(err, "NOSCRIPT"))
			var u *UnavailableError
			if err = explain(c.addr, err); again {
				failed = err
			} else if err != nil && !(errors.As(err, &u) && u.Cause == CauseWrongType) {
				return err
			}
		}
		if failed == nil {
			return nil
		}
	}
	return failed
}

// scan calls each for every key that matches pattern, on every primary, one call
// at a time.
func (c *Client) scan(ctx context.Context, pattern string, each func(key string)) error {
	var mu sync.Mutex
	on := func(ctx context.Context, rdb redis.Cmdable) error {
		for cursor := uint64(0); ; {
			keys, next, err := rdb.Scan(ctx, cursor, pattern, 1000).Result()
			err = explain(c.addr, err)
			c.heard(ctx, err)
			if err != nil {
				return err
			}
			mu.Lock()
			for _, key := range keys {
				each(key)
			}
			mu.Unlock()
			if cursor = next; cursor == 0 {
				return nil
			}
		}
	}
	if cluster, ok := c.calls.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return on(ctx, node) })
	}
	return on(ctx, c.calls)
}

var globEscaper = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)

// ForceRelease takes the lock name from all who hold it, tells them, and calls
// the next waiter. It returns what it took, or ErrNotHeld. A holder is told in
// one round trip if it listens, else when it begins to, a tenth of a second after
// it got the lock, or when it renews ByHand; what it does until then only a fence
// keeps in check.
func (c *Client) ForceRelease(ctx context.Context, name string) (Info, error) {
	if err := checkName(name); err != nil {
		return Info{}, fmt.Errorf("release by force: %w", err)
	}
	k := lockKeys(c.cfg.Prefix, name)
	args := arguments(&k, 2)
	args[argOwn], args[argOwn+1] = c.caller(&k)
	reply, _, err := detach(c, ctx, func(ctx context.Context) ([]any, error) {
		return c.runSlice(ctx, c.calls, forceScript, args)
	})
	info := Info{Name: name}
	switch {
	case err != nil:
	case len(reply) == 0:
		err = ErrNotHeld
	case len(reply)%2 == 1 || !info.addHolders(reply):
		err = errReply(forceScript, reply)
	}
	if err != nil {
		return Info{}, fmt.Errorf("release lock %q by force: %w", name, err)
	}
	v, _ := decodeValue(reply[0].(string))
	info.Fence = v.fence
	return info, nil
}
