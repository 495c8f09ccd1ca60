package httpapi

import (
	"context"

	"github.com/peerhq/peer/agent/api"
)

// NextQuery says which peers may be handed out. Count is at least 1.
type NextQuery = api.NextQuery

// Agent is what the endpoint needs of the agent behind it. Every method may be
// called from any goroutine, many at a time, and must not keep a caller longer
// than its context. An error that is, or wraps, an *api.Problem is sent as it
// is; any other becomes a 500, or of those about locks a 502.
type Agent interface {
	// Status returns the agent's one picture of itself and the cluster.
	Status(ctx context.Context) api.Status
	// Members returns everybody, sorted by name. The caller does not change it.
	Members() api.Members
	// MembersChanged returns nil when Members().Index is above index, or the
	// error of ctx.
	MembersChanged(ctx context.Context, index uint64) error
	// Next takes a turn. Nobody live, or nobody that q lets through, is a
	// problem of kind api.KindNoPeers or api.KindNoMatch.
	Next(q NextQuery) (api.Next, error)
	// Report tells how a request to a peer that was handed out has gone.
	Report(r api.NextReport) error
	// Services returns the services of the whole cluster, sorted by name.
	Services() api.Services
	// ServicesChanged returns nil when the index of the services, or of the one
	// called name if that is not empty, is not index any more.
	ServicesChanged(ctx context.Context, name string, index uint64) error
	// Register, Deregister and Drain change the services of this host; after an
	// error nothing is changed. Pass is a service's sign of life.
	Register(ctx context.Context, name string, r api.Registration) error
	Deregister(ctx context.Context, name string) error
	Drain(ctx context.Context, name string, draining bool) error
	Pass(ctx context.Context, name string, r api.PassRequest) error
	// Locks reads the locks of the shared Redis, and Lock one of them.
	Locks(ctx context.Context) (api.Locks, error)
	Lock(ctx context.Context, name string) (api.Lock, error)
	// AcquireLock takes a lock for a client that renews it, and waits as r says,
	// or until ctx is done. RenewLock and ReleaseLock take the lease given out.
	AcquireLock(ctx context.Context, name string, r api.LockRequest) (api.Lease, error)
	RenewLock(ctx context.Context, name, lease string) (api.Lease, error)
	ReleaseLock(ctx context.Context, name, lease string) (api.Released, error)
	// HoldLock takes a lock, keeps it while ctx lives and tells, from one
	// goroutine, what becomes of it. It returns an error only when it did not
	// get the lock. An error of tell is one of the client's connection.
	HoldLock(ctx context.Context, name string, r api.LockRequest, tell func(api.HoldEvent) error) error
	// ForceReleaseLock takes a lock from whoever holds it.
	ForceReleaseLock(ctx context.Context, name string) (api.Released, error)
	// Events returns all events newer than since, oldest first, and blocks
	// until there is one. When some of them are gone already the first is of
	// type "reset".
	Events(ctx context.Context, since uint64) ([]api.Event, error)
	// Join dials each of addrs and says how it went.
	Join(ctx context.Context, addrs []string) api.JoinResult
	// Forget drops a member that is failed, left or not seen, for the whole cluster.
	Forget(name string) error
	// Keyring asks every member which gossip keys it has, and ChangeKeyring has
	// them change; those that did not answer by the deadline of ctx are named.
	Keyring(ctx context.Context) (api.Keyring, error)
	ChangeKeyring(ctx context.Context, r api.KeyringRequest) (api.Keyring, error)
	// Leave begins a graceful leave and returns at once.
	Leave() error
	// Ready says whether the agent should get work, and check by check why.
	Ready() (bool, []api.Check)
	// Live returns why the agent's own process should be restarted, or nil. It
	// depends on no peer and on no Redis.
	Live() error
}
