package agent

import (
	"context"
	"errors"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/lockclient"
)

// Locks reads who holds and who waits for what in the shared Redis.
func (a *Agent) Locks(ctx context.Context) (api.Locks, error) {
	out := api.Locks{Schema: api.SchemaLocks, Locks: []api.Lock{}}
	if a.locks == nil {
		return out, noRedisProblem()
	}
	infos, err := a.locks.List(ctx)
	if err != nil {
		return out, redisProblem(err)
	}
	for _, info := range infos {
		out.Locks = append(out.Locks, apiLock(info))
	}
	return out, nil
}

// Lock reads who holds and who waits for one lock. Nobody does is a problem of
// kind api.KindNoLock.
func (a *Agent) Lock(ctx context.Context, name string) (api.Lock, error) {
	if a.locks == nil {
		return api.Lock{}, noRedisProblem()
	}
	info, err := a.locks.Inspect(ctx, name)
	if err == nil && info.Holder == nil && len(info.Waiters) == 0 {
		err = lockclient.ErrNotHeld
	}
	if err != nil {
		return api.Lock{}, lockError(name, err)
	}
	return apiLock(info), nil
}

// AcquireLock takes a lock for an HTTP client, which has to renew it.
func (a *Agent) AcquireLock(ctx context.Context, name string, r api.LockRequest) (api.Lease, error) {
	if a.leases == nil {
		return api.Lease{}, noRedisProblem()
	}
	q, err := readLockRequest(r, 0)
	if err != nil {
		return api.Lease{}, err
	}
	return a.leases.acquire(ctx, name, q)
}

// RenewLock puts the end of a lease off by its whole time to live.
func (a *Agent) RenewLock(ctx context.Context, name, lease string) (api.Lease, error) {
	if a.leases == nil {
		return api.Lease{}, noRedisProblem()
	}
	return a.leases.renew(ctx, name, lease)
}

// ReleaseLock gives a lease back.
func (a *Agent) ReleaseLock(ctx context.Context, name, lease string) (api.Released, error) {
	if a.leases == nil {
		return api.Released{}, noRedisProblem()
	}
	return a.leases.release(ctx, name, lease)
}

// HoldLock takes a lock for as long as ctx lives, and tells what becomes of it;
// see leases.hold.
func (a *Agent) HoldLock(ctx context.Context, name string, r api.LockRequest, tell func(api.HoldEvent) error) error {
	if a.leases == nil {
		return noRedisProblem()
	}
	q, err := readLockRequest(r, forever)
	if err != nil {
		return err
	}
	return a.leases.hold(ctx, name, q, tell)
}

// ForceReleaseLock takes a lock from whoever holds it.
func (a *Agent) ForceReleaseLock(ctx context.Context, name string) (api.Released, error) {
	if a.locks == nil {
		return api.Released{}, noRedisProblem()
	}
	info, err := a.locks.ForceRelease(ctx, name)
	if err != nil {
		return api.Released{}, lockError(name, err)
	}
	out := api.Released{Name: name, Fence: info.Fence}
	if info.Holder != nil {
		out.Holder = apiHolder(*info.Holder)
	}
	a.logger.Warn("lock taken by force", "lock", name, "fence", info.Fence, "holder", info.Holder)
	return out, nil
}

func apiLock(i lockclient.Info) api.Lock {
	out := api.Lock{
		Name: i.Name, Fence: i.Fence, ExpiresInMS: i.ExpiresIn.Milliseconds(), TTLMS: i.TTL.Milliseconds(), Waiters: []api.LockWaiter{},
	}
	if i.Holder != nil {
		out.Holder = apiHolder(*i.Holder)
	}
	for _, w := range i.Waiters {
		out.Waiters = append(out.Waiters, api.LockWaiter{Node: w.Node, PID: w.PID, Position: w.Position})
	}
	return out
}

// apiHolder returns nil where nobody is known to hold the lock.
func apiHolder(h lockclient.Holder) *api.LockHolder {
	if h.Node == "" {
		return nil
	}
	out := &api.LockHolder{Node: h.Node, PID: h.PID, Command: h.Command}
	if !h.Since.IsZero() {
		t := h.Since.UTC()
		out.Since = &t
	}
	return out
}

// resultOf sorts how a try to get a lock went, for the metrics. It is empty for
// one that was not made.
func resultOf(err error) string {
	switch {
	case err == nil:
		return "acquired"
	case errors.Is(err, lockclient.ErrHeld):
		return "held"
	case errors.Is(err, lockclient.ErrUnavailable), errors.Is(err, errSlowRedis):
		return "unavailable"
	case errors.Is(err, lockclient.ErrBadName), errors.Is(err, lockclient.ErrBadTTL):
		return ""
	}
	return "cancelled"
}
