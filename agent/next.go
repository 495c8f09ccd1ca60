package agent

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/cluster"
	"github.com/peerhq/peer/selector"
)

// served counts turns, for the metrics.
type served struct{ ok, none atomic.Uint64 }

// Next takes a turn: the peers whose turn it is, q.Count of them and no peer
// twice, the further ones in fail-over order. Nobody live, or nobody that
// matches q, is an *api.Problem.
func (a *Agent) Next(q api.NextQuery) (api.Next, error) {
	policy := selector.RoundRobin
	if q.Policy != "" {
		p, err := selector.ParsePolicy(q.Policy)
		if err != nil {
			return api.Next{}, api.NewProblem(http.StatusBadRequest, api.KindBadRequest, err.Error(), "choose one of round_robin, weighted, least_loaded, random, by_key, nearest")
		}
		policy = p
	}
	if q.Key != "" && q.Policy == "" {
		policy = selector.ByKey
	}
	out := api.Next{Schema: api.SchemaNext, Policy: policy.String(), Peers: []api.NextPeer{}}
	s := a.matching(q)
	if policy != selector.RoundRobin {
		s = s.With(policy)
	}
	want := max(q.Count, 1)
	add := func(m cluster.Member) {
		if !slices.Contains(q.Exclude, m.Name) && len(out.Peers) < want &&
			!slices.ContainsFunc(out.Peers, func(p api.NextPeer) bool { return p.Name == m.Name }) {
			out.Peers = append(out.Peers, nextPeer(m, q.Service))
		}
	}
	if policy == selector.ByKey {
		if m, err := s.NextFor(q.Key); err == nil {
			add(m)
		}
	}
	if len(out.Peers) < want {
		for m := range s.All() {
			if add(m); len(out.Peers) == want {
				break
			}
		}
	}
	if len(out.Peers) == 0 {
		a.served.none.Add(1)
		return api.Next{}, a.nobody(q)
	}
	a.served.ok.Add(1)
	return out, nil
}

// matching returns the selector of those whom q's service and tags let through.
func (a *Agent) matching(q api.NextQuery) *selector.Selector[cluster.Member] {
	s := a.selector
	if q.Service != "" {
		s = s.Where("service="+q.Service, func(m cluster.Member) bool {
			_, ok := serviceOf(m, q.Service)
			return ok
		})
	}
	for _, k := range slices.Sorted(maps.Keys(q.Tags)) {
		v := q.Tags[k]
		s = s.Where("tag="+k+":"+v, func(m cluster.Member) bool { return m.Tags[k] == v })
	}
	return s
}

// serviceOf returns m's service called name if it may be handed out.
func serviceOf(m cluster.Member, name string) (cluster.Service, bool) {
	for _, s := range m.Services {
		if s.Name == name {
			return s, s.Health == "" || s.Health == "passing"
		}
	}
	return cluster.Service{}, false
}

func nextPeer(m cluster.Member, service string) api.NextPeer {
	p := api.NextPeer{
		Name: m.Name, Addr: m.Addr.Addr().String(), Port: m.Addr.Port(),
		Tags: m.Tags, RTTMS: millis(m.RTT()),
	}
	if s, ok := serviceOf(m, service); ok {
		p.Service, p.Port = s.Name, s.Port
		if s.Addr != "" {
			p.Addr = s.Addr
		}
	}
	return p
}

// nobody says why no peer could be handed out.
func (a *Agent) nobody(q api.NextQuery) error {
	v := a.cluster.View()
	live := len(v.Eligible())
	if live == 0 {
		return api.NewProblem(http.StatusServiceUnavailable, api.KindNoPeers,
			fmt.Sprintf("%d members known: %d suspect, %d failed, %d left", len(v.Members), v.Count(cluster.Suspect), v.Count(cluster.Failed), v.Count(cluster.Left)),
			"start more peers, or see `peer members` for why they are not alive")
	}
	var wants []string
	if q.Service != "" {
		wants = append(wants, "service "+q.Service)
	}
	for _, k := range slices.Sorted(maps.Keys(q.Tags)) {
		wants = append(wants, "tag "+k+":"+q.Tags[k])
	}
	if len(q.Exclude) > 0 {
		wants = append(wants, "not "+strings.Join(q.Exclude, ", "))
	}
	return api.NewProblem(http.StatusServiceUnavailable, api.KindNoMatch,
		fmt.Sprintf("%d peers are live, none has %s", live, strings.Join(wants, " and ")),
		"see `peer members --wide` for tags and services")
}
