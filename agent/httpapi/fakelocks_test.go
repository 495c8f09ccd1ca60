package httpapi_test

import (
	"context"
	"net/http"
	"strconv"

	"github.com/peerhq/peer/agent/api"
)

// fakeLocks are the answers of a fakeAgent about locks.
type fakeLocks struct {
	acquire func(ctx context.Context, name string, r api.LockRequest) (api.Lease, error)
	renew   func(name, lease string) (api.Lease, error)
	release func(ctx context.Context, name, lease string) (api.Released, error)
	force   func(name string) (api.Released, error)
	hold    func(ctx context.Context, name string, r api.LockRequest, tell func(api.HoldEvent) error) error
}

func (a *fakeAgent) Lock(ctx context.Context, name string) (api.Lock, error) {
	all, err := a.Locks(ctx)
	if err != nil {
		return api.Lock{}, err
	}
	for _, l := range all.Locks {
		if l.Name == name {
			return l, nil
		}
	}
	return api.Lock{}, api.NewProblem(http.StatusNotFound, api.KindNoLock, "nobody holds "+strconv.Quote(name), "see /v1/locks")
}

func (a *fakeAgent) AcquireLock(ctx context.Context, name string, r api.LockRequest) (api.Lease, error) {
	return a.locking.acquire(ctx, name, r)
}

func (a *fakeAgent) RenewLock(_ context.Context, name, lease string) (api.Lease, error) {
	return a.locking.renew(name, lease)
}

func (a *fakeAgent) ReleaseLock(ctx context.Context, name, lease string) (api.Released, error) {
	return a.locking.release(ctx, name, lease)
}

func (a *fakeAgent) ForceReleaseLock(_ context.Context, name string) (api.Released, error) {
	return a.locking.force(name)
}

func (a *fakeAgent) HoldLock(ctx context.Context, name string, r api.LockRequest, tell func(api.HoldEvent) error) error {
	return a.locking.hold(ctx, name, r, tell)
}
