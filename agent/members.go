package agent

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/cluster"
)

// Members returns everybody as this agent sees them, sorted by name.
func (a *Agent) Members() api.Members {
	v := a.cluster.View()
	now := time.Now()
	out := api.Members{
		Schema: api.SchemaMembers, SeenBy: a.cfg.Name, Index: v.Index, AsOf: a.cfg.Seams.Now().UTC(),
		Members: make([]api.Member, 0, len(v.Members)),
	}
	for _, m := range v.Members {
		out.Members = append(out.Members, apiMember(m, now, out.AsOf))
	}
	return out
}

// apiMember draws m. Ages come from the monotonic clock, dates from the wall
// clock asOf, so that a clock that is set does not make anybody look old.
func apiMember(m cluster.Member, now, asOf time.Time) api.Member {
	out := api.Member{
		Name: m.Name, Instance: m.Instance.String(), Addr: m.Addr.String(), Self: m.Self,
		State: string(m.State), Cause: string(m.Cause), Since: asOf.Add(-now.Sub(m.Since)).UTC(),
		HeartbeatAgeMS: max(now.Sub(m.Heartbeat()), 0).Milliseconds(), RTTMS: millis(m.RTT()),
		Flaps: m.Flaps, Version: m.Version, Tags: m.Tags, Services: []api.Service{}, Eligible: m.Eligible(),
	}
	if m.Self {
		out.HeartbeatAgeMS = 0
	}
	if out.Tags == nil {
		out.Tags = map[string]string{}
	}
	for _, s := range m.Services {
		svc := api.Service{
			Name: s.Name, Addr: s.Addr, Port: s.Port, Tags: s.Tags, Weight: max(s.Weight, 1), Health: s.Health, Meta: s.Meta, Draining: s.Draining,
		}
		if svc.Addr == "" {
			svc.Addr = m.Addr.Addr().String()
		}
		if svc.Tags == nil {
			svc.Tags = []string{}
		}
		if svc.Meta == nil {
			svc.Meta = map[string]string{}
		}
		out.Services = append(out.Services, svc)
	}
	return out
}

// Forget drops a member that is failed or left, for the whole cluster, or one of
// an earlier run that was not seen since.
func (a *Agent) Forget(name string) error {
	switch err := a.cluster.Forget(name); {
	case errors.Is(err, cluster.ErrUnknown):
		return api.NewProblem(http.StatusNotFound, api.KindNoMember, "nobody called "+name+" is known here", "see `peer members` and `peer status` for the names")
	case errors.Is(err, cluster.ErrLiving):
		return api.NewProblem(http.StatusConflict, api.KindLiving, name+" is not gone, and would come back at once", "stop it first: `peer leave` on its host")
	default:
		return err
	}
}

// MembersChanged returns when the members' index is above index.
func (a *Agent) MembersChanged(ctx context.Context, index uint64) error {
	return a.cluster.Changed(ctx, index)
}

// Events returns the events newer than since, waiting until there is one.
func (a *Agent) Events(ctx context.Context, since uint64) ([]api.Event, error) {
	return a.events.after(ctx, since)
}

// Join dials addrs once and says how each went.
func (a *Agent) Join(ctx context.Context, addrs []string) api.JoinResult {
	out := api.JoinResult{Joined: []string{}, Errors: []api.JoinError{}}
	for _, o := range a.cluster.Join(ctx, addrs) {
		if o.Err != nil {
			out.Errors = append(out.Errors, api.JoinError{Addr: o.Addr, Error: oneLine(o.Err)})
		} else {
			out.Joined = append(out.Joined, o.Addr)
		}
	}
	return out
}

// Leave begins a graceful leave and returns at once; Done tells when it is over.
func (a *Agent) Leave() error {
	a.leave.Do(func() {
		a.phase.Store("leaving")
		go func() {
			defer close(a.asked)
			// A moment for the answer that this leave was asked in.
			time.Sleep(100 * time.Millisecond)
			if err := a.Stop(context.Background()); err != nil {
				a.logger.Warn("leave", "err", err)
			}
		}()
	})
	return nil
}

func isLoopbackAddr(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && isLoopback(host)
}
