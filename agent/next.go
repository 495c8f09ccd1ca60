package agent

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/cluster"
	"github.com/peerhq/peer/selector"
)

// served counts turns, for the metrics.
type served struct{ ok, none atomic.Uint64 }

// Next takes a turn: the peers whose turn it is, q.Count of them and no peer
// twice, the further ones in fail-over order. Nobody live, or nobody that
// matches q, is an *api.Problem. With q.Explain no turn is taken.
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
	if len(q.ServiceTags) > 0 && q.Service == "" {
		return api.Next{}, api.NewProblem(http.StatusBadRequest, api.KindBadRequest, "service_tag without service", "name the service, or ask by tag=KEY:VALUE for tags of members")
	}
	out := api.Next{Schema: api.SchemaNext, Policy: policy.String(), Peers: []api.NextPeer{}}
	s := a.matching(q, policy)
	want := selector.Want{Key: q.Key, Exclude: q.Exclude}
	count := max(q.Count, 1)
	if q.Explain {
		a.explain(&out, s, q, want, count)
		return out, nil
	}
	if s != nil {
		for e, tier := range s.Order(want) {
			if out.Peers = append(out.Peers, nextPeer(e, tier)); len(out.Peers) == count {
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

// matching returns the selector of those whom q lets through, nil when nobody
// runs its service.
func (a *Agent) matching(q api.NextQuery, policy selector.Policy) *selector.Selector[endpoint] {
	s := a.selectorOf(q.Service, policy == selector.Nearest)
	if s == nil {
		return nil
	}
	for _, k := range slices.Sorted(maps.Keys(q.Tags)) {
		v := q.Tags[k]
		s = s.Where("tag="+k+":"+v, func(e endpoint) bool { return e.member.Tags[k] == v })
	}
	for _, t := range slices.Compact(slices.Sorted(slices.Values(q.ServiceTags))) {
		s = s.Where("service_tag="+t, func(e endpoint) bool { return slices.Contains(e.service.Tags, t) })
	}
	if policy != selector.RoundRobin {
		s = s.With(policy)
	}
	return s
}

func nextPeer(e endpoint, tier selector.Tier) api.NextPeer {
	return api.NextPeer{
		Name: e.member.Name, Addr: e.addr(), Service: e.service.Name, Port: e.port(),
		Tags: e.member.Tags, RTTMS: millis(e.member.RTT()), Tier: tier.String(),
	}
}

// explain says where everybody stands: those in the rotation first, in the order
// of their turns, then those who are not in it.
func (a *Agent) explain(out *api.Next, s *selector.Selector[endpoint], q api.NextQuery, want selector.Want, count int) {
	seen := map[cluster.Instance]bool{}
	if s != nil {
		for _, st := range s.Explain(want) {
			e := st.Peer
			seen[e.member.Instance] = true
			x := api.Standing{
				Name: e.member.Name, Addr: e.addr(), Port: e.port(), Rank: st.Rank, Share: st.Share,
				Strikes: st.Strikes, LatencyMS: millis(st.Latency), Why: st.Why,
			}
			if st.Rank >= 0 {
				x.Tier = st.Tier.String()
				if len(out.Peers) < count {
					out.Peers = append(out.Peers, nextPeer(e, st.Tier))
				}
			}
			out.Explain = append(out.Explain, x)
		}
	}
	for _, m := range a.cluster.View().Members {
		if seen[m.Instance] {
			continue
		}
		e, why := endpoint{member: m}, ""
		if q.Service != "" {
			i := slices.IndexFunc(m.Services, func(s cluster.Service) bool { return s.Name == q.Service })
			if i < 0 {
				why = "it does not run " + q.Service
			} else {
				e.service = m.Services[i]
			}
		}
		if d := e.describe(); d != "" {
			why = strings.TrimPrefix(why+"; "+d, "; ")
		}
		out.Explain = append(out.Explain, api.Standing{Name: m.Name, Addr: e.addr(), Port: e.port(), Rank: -1, Why: why})
	}
}

// errReported is a failure that was reported over HTTP.
var errReported = errors.New("reported as failed")

// Report tells this agent's rotation how a request has gone.
func (a *Agent) Report(r api.NextReport) error {
	if r.LatencyMS < 0 || r.LatencyMS > 1e9 || math.IsNaN(r.LatencyMS) {
		return api.NewProblem(http.StatusBadRequest, api.KindBadRequest, fmt.Sprintf("latency_ms %g", r.LatencyMS), "want milliseconds from 0 up, or leave it out")
	}
	s := a.selectorOf(r.Service, false)
	if s == nil {
		return api.NewProblem(http.StatusNotFound, api.KindNoService, fmt.Sprintf("no host runs a service %q", clip(r.Service)), "see /v1/services for those that are known here")
	}
	members := a.cluster.View().Lookup(r.Name)
	if len(members) == 0 {
		return api.NewProblem(http.StatusNotFound, api.KindNoMember, fmt.Sprintf("no member is called %q", clip(r.Name)), "report the name that /v1/next gave")
	}
	var err error
	if !r.OK {
		err = errReported
	}
	// Reports go by the name alone; those of a peer that is out of the rotation
	// are ignored.
	s.Report(endpoint{member: members[0]}, err, time.Duration(r.LatencyMS*float64(time.Millisecond)))
	return nil
}

// nobody says why no peer could be handed out, with numbers.
func (a *Agent) nobody(q api.NextQuery) error {
	v := a.cluster.View()
	live := v.Eligible()
	counts := fmt.Sprintf("%d members known: %d suspect, %d failed, %d left", len(v.Members), v.Count(cluster.Suspect), v.Count(cluster.Failed), v.Count(cluster.Left))
	if len(live) == 0 {
		return api.NewProblem(http.StatusServiceUnavailable, api.KindNoPeers, counts,
			"start more peers, or see `peer members` for why they are not alive")
	}
	var wants []string
	for _, k := range slices.Sorted(maps.Keys(q.Tags)) {
		wants = append(wants, "tag "+k+":"+q.Tags[k])
	}
	for _, t := range q.ServiceTags {
		wants = append(wants, "service tag "+t)
	}
	if len(q.Exclude) > 0 {
		wants = append(wants, "not "+strings.Join(q.Exclude, ", "))
	}
	if q.Service == "" {
		return api.NewProblem(http.StatusServiceUnavailable, api.KindNoMatch,
			fmt.Sprintf("%d peers are live, none has %s", len(live), strings.Join(wants, " and ")),
			"see `peer members --wide` for tags and services")
	}
	l := a.catalog().services[q.Service]
	if l == nil {
		return api.NewProblem(http.StatusServiceUnavailable, api.KindNoMatch,
			fmt.Sprintf("%d peers are live, none has service %s", len(live), clip(q.Service)),
			"see `peer services` for those that run somewhere")
	}
	var passing, critical, draining, gone int
	for _, e := range l.endpoints {
		switch {
		case !e.member.Eligible():
			gone++
		case e.service.Draining:
			draining++
		case !e.eligible():
			critical++
		default:
			passing++
		}
	}
	detail := fmt.Sprintf("service %s is on %d peers: %d of them not live, %d critical, %d draining", q.Service, len(l.endpoints), gone, critical, draining)
	if passing > 0 {
		detail += fmt.Sprintf("; none of the other %d has %s", passing, strings.Join(wants, " and "))
	}
	return api.NewProblem(http.StatusServiceUnavailable, api.KindNoMatch, detail, "see `peer services "+q.Service+"`, or `peer next --explain "+q.Service+"` for why")
}
