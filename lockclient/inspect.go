package lockclient

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Info is what Redis knows of a lock.
type Info struct {
	Name      string
	Holder    *Holder       // nil when nobody holds it
	Fence     uint64        // of the last grant; 0 if there never was one
	TTL       time.Duration // the holder's time to live
	ExpiresIn time.Duration // until the hold ends unless it is renewed
	Waiters   []Waiter      // in order
}

// A Waiter has a place in a lock's queue.
type Waiter struct {
	Node     string
	PID      int
	Command  string // without arguments
	Position int    // from 1
}

// Inspect tells who holds and who waits for the lock name. Nobody does: that is
// no error.
func (c *Client) Inspect(ctx context.Context, name string) (Info, error) {
	if err := checkName(name); err != nil {
		return Info{}, fmt.Errorf("inspect lock: %w", err)
	}
	keys := lockKeys(c.cfg.Prefix, name)
	reply, _, err := c.call(ctx, inspectScript, keys[:])
	if err != nil {
		return Info{}, fmt.Errorf("inspect lock %q: %w", name, err)
	}
	info, ok := decodeInfo(name, reply)
	if !ok {
		return Info{}, fmt.Errorf("inspect lock %q: %w", name, errReply("inspect.lua", reply))
	}
	return info, nil
}

func decodeInfo(name string, reply []any) (Info, bool) {
	if len(reply) < 3 || len(reply)%2 == 0 {
		return Info{}, false
	}
	pttl, ok1 := reply[0].(int64)
	holder, ok2 := reply[1].(string)
	if !ok1 || !ok2 {
		return Info{}, false
	}
	info := Info{Name: name}
	if holder != "" {
		v, ok := decodeValue(holder)
		if !ok {
			v.holder.Node = "somebody" // another program's value
		}
		info.Holder, info.TTL, info.ExpiresIn = &v.holder, v.ttl, max(remaining(pttl), 0)
	}
	info.Fence, _ = decodeFence(reply[2])
	for pair := range slices.Chunk(reply[3:], 2) {
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

// List returns all locks that are held or waited for, sorted by name. It walks
// the keys of the whole Redis in steps, which blocks nobody.
func (c *Client) List(ctx context.Context) ([]Info, error) {
	names := map[string]bool{}
	pattern := globEscaper.Replace(c.cfg.Prefix) + "{*"
	for cursor := uint64(0); ; {
		found, next, err := c.calls.Scan(ctx, cursor, pattern, 1000).Result()
		err = explain(c.addr, err)
		c.heard(ctx, err)
		if err != nil {
			return nil, fmt.Errorf("list locks: %w", err)
		}
		for _, key := range found {
			if strings.HasSuffix(key, "}") || strings.HasSuffix(key, "}:q") {
				if name, ok := nameOf(c.cfg.Prefix, key); ok {
					names[name] = true
				}
			}
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	infos := []Info{}
	for name := range names {
		info, err := c.Inspect(ctx, name)
		if err != nil {
			return nil, err
		}
		if info.Holder != nil || len(info.Waiters) > 0 {
			infos = append(infos, info)
		}
	}
	slices.SortFunc(infos, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return infos, nil
}

var globEscaper = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)

// ForceRelease takes the lock name from whoever holds it, tells that process,
// and calls the next waiter. It returns what it took, or ErrNotHeld. The holder
// is told in one round trip if it listens, which it does after holding for a
// tenth of a second, else by its next renewal; what it does until then only a
// fence keeps in check.
func (c *Client) ForceRelease(ctx context.Context, name string) (Info, error) {
	if err := checkName(name); err != nil {
		return Info{}, fmt.Errorf("release by force: %w", err)
	}
	keys := lockKeys(c.cfg.Prefix, name)
	reply, _, err := c.call(ctx, forceScript, keys[:], "PUBLISH", c.cfg.Prefix+"process:")
	if err != nil {
		return Info{}, fmt.Errorf("release lock %q by force: %w", name, err)
	}
	if len(reply) == 1 {
		return Info{}, fmt.Errorf("release lock %q by force: %w", name, ErrNotHeld)
	}
	if len(reply) != 4 {
		return Info{}, fmt.Errorf("release lock %q by force: %w", name, errReply("force.lua", reply))
	}
	holder, _ := reply[2].(string)
	v, _ := decodeValue(holder)
	pttl, _ := reply[1].(int64)
	return Info{Name: name, Holder: &v.holder, Fence: v.fence, TTL: v.ttl, ExpiresIn: max(remaining(pttl), 0)}, nil
}
