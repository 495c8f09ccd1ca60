package agent

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/agent/checks"
	"github.com/peerhq/peer/cluster"
	"github.com/peerhq/peer/selector"
)

// endpoint is what the selectors hand out: a member, or a service on it.
type endpoint struct {
	member  cluster.Member
	service cluster.Service // without a name: the member itself
}

func (e endpoint) id() string { return e.member.Name }

func (e endpoint) weight() int { return max(e.service.Weight, 1) }

// eligible says whether e may be handed out.
func (e endpoint) eligible() bool {
	return e.member.Eligible() && !e.service.Draining && e.service.Health != checks.Critical
}

// standby says whether e is handed out only when nobody better is left.
func (e endpoint) standby() bool { return e.service.Health == checks.Warning }

// addr is where e listens, without the port.
func (e endpoint) addr() string {
	if e.service.Addr != "" {
		return e.service.Addr
	}
	return e.member.Addr.Addr().String()
}

func (e endpoint) port() uint16 {
	if e.service.Name != "" {
		return e.service.Port
	}
	return e.member.Addr.Port()
}

// newSelector returns a selector of endpoints for this agent.
func (a *Agent) newSelector() *selector.Selector[endpoint] {
	cfg := selector.Config[endpoint]{
		ID:      endpoint.id,
		Seed:    a.cfg.Name,
		Self:    a.cfg.Name,
		Weight:  endpoint.weight,
		Standby: endpoint.standby,
		RTT:     func(e endpoint) time.Duration { return e.member.RTT() },
	}
	if tag := a.cfg.ZoneTag; tag != "" && a.cfg.Tags[tag] != "" {
		cfg.Home = a.cfg.Tags[tag]
		cfg.Zone = func(e endpoint) string { return e.member.Tags[tag] }
	}
	return selector.New(cfg)
}

// catalog is what runs where, as one View shows it. It is never changed.
type catalog struct {
	view     uint64 // Index of the View
	index    uint64 // the first View that shows these services
	services map[string]*listing
}

// listing is one service on all hosts.
type listing struct {
	index     uint64
	endpoints []endpoint // by member; of those who left there are none
}

// same says whether b shows what a does; round trips and heartbeats do not
// count.
func (l *listing) same(b *listing) bool {
	if len(l.endpoints) != len(b.endpoints) {
		return false
	}
	for i, x := range l.endpoints {
		y := b.endpoints[i]
		m, n := x.member, y.member
		if m.Instance != n.Instance || m.Addr != n.Addr || m.State != n.State || m.Shadowed != n.Shadowed ||
			!maps.Equal(m.Tags, n.Tags) || !reflect.DeepEqual(x.service, y.service) {
			return false
		}
	}
	return true
}

// since returns the first View from which on the service called name has been
// as it is. One that runs nowhere goes by all.
func (c *catalog) since(name string) uint64 {
	if l := c.services[name]; l != nil && name != "" {
		return l.index
	}
	return c.index
}

// newCatalog draws v; old is what was known before.
func newCatalog(v *cluster.View, old *catalog) *catalog {
	c := &catalog{view: v.Index, index: v.Index, services: map[string]*listing{}}
	for _, m := range v.Members {
		if m.State == cluster.Left {
			continue
		}
		for _, s := range m.Services {
			l := c.services[s.Name]
			if l == nil {
				l = &listing{index: v.Index}
				c.services[s.Name] = l
			}
			l.endpoints = append(l.endpoints, endpoint{m, s})
		}
	}
	if old == nil {
		return c
	}
	changed := len(c.services) != len(old.services)
	for name, l := range c.services {
		if was := old.services[name]; was != nil && was.same(l) {
			l.index = was.index
		} else {
			changed = true
		}
	}
	if !changed {
		c.index = old.index
	}
	return c
}

// catalog returns what runs where, as the newest View shows it.
func (a *Agent) catalog() *catalog {
	a.rotating.Lock()
	defer a.rotating.Unlock()
	a.follow(a.cluster.View())
	return a.known
}

// follow gives the selectors whom v calls eligible, unless they have a later
// View. The caller holds a.rotating.
func (a *Agent) follow(v *cluster.View) {
	if a.known != nil && v.Index <= a.known.view {
		return
	}
	a.known = newCatalog(v, a.known)
	a.set(v)
}

// set fills the selectors. The caller holds a.rotating.
func (a *Agent) set(v *cluster.View) {
	a.filled = time.Now()
	var all []endpoint
	for _, m := range v.Eligible() {
		all = append(all, endpoint{member: m})
	}
	a.selector.Set(all)
	for name, s := range a.services {
		if l := a.known.services[name]; l != nil {
			s.Set(l.eligible())
		} else {
			s.Set(nil)
			delete(a.services, name)
		}
	}
}

func (l *listing) eligible() []endpoint {
	var out []endpoint
	for _, e := range l.endpoints {
		if e.eligible() {
			out = append(out, e)
		}
	}
	return out
}

// refillAfter is how old round trips may be for a choice by round trip.
const refillAfter = time.Second

// selectorOf returns the selector of the service called name, or of the members
// themselves, with round trips as of now if fresh; nil when nobody runs it.
func (a *Agent) selectorOf(name string, fresh bool) *selector.Selector[endpoint] {
	a.rotating.Lock()
	defer a.rotating.Unlock()
	v := a.cluster.View()
	a.follow(v)
	if fresh && time.Since(a.filled) > refillAfter {
		a.set(v)
	}
	if name == "" {
		return a.selector
	}
	if s := a.services[name]; s != nil {
		return s
	}
	l := a.known.services[name]
	if l == nil {
		return nil
	}
	s := a.newSelector()
	s.Set(l.eligible())
	a.services[name] = s
	return s
}

// Services returns the services of the whole cluster, sorted by name.
func (a *Agent) Services() api.Services {
	c := a.catalog()
	now := a.cfg.Seams.Now().UTC()
	out := api.Services{Schema: api.SchemaServices, SeenBy: a.cfg.Name, Index: c.index, AsOf: now, Services: []api.ServiceGroup{}}
	for _, name := range slices.Sorted(maps.Keys(c.services)) {
		l := c.services[name]
		g := api.ServiceGroup{Name: name, Index: l.index, Tags: []string{}, Instances: []api.ServiceInstance{}}
		for _, e := range l.endpoints {
			i := a.instance(e)
			if i.Eligible {
				g.Eligible++
			}
			g.Tags = append(g.Tags, e.service.Tags...)
			g.Instances = append(g.Instances, i)
		}
		slices.Sort(g.Tags)
		g.Tags = slices.Compact(g.Tags)
		out.Services = append(out.Services, g)
	}
	return out
}

func (a *Agent) instance(e endpoint) api.ServiceInstance {
	i := api.ServiceInstance{
		Node: e.member.Name, Addr: e.addr(), Port: e.port(), Tags: e.service.Tags, Weight: e.weight(), Health: e.service.Health,
		Draining: e.service.Draining, Meta: e.service.Meta, State: string(e.member.State), Eligible: e.eligible(),
		NodeTags: e.member.Tags, RTTMS: millis(e.member.RTT()), Self: e.member.Self,
	}
	if i.Self {
		i.Local = a.registry.local(e.service.Name)
	}
	return i
}

// ServicesChanged returns when the index of the services, or of the one called
// name, is not index any more.
func (a *Agent) ServicesChanged(ctx context.Context, name string, index uint64) error {
	for {
		c := a.catalog()
		if c.since(name) != index {
			return nil
		}
		if err := a.cluster.Changed(ctx, c.view); err != nil {
			return err
		}
	}
}

// ServiceIndex returns the index of the service called name, whether it runs
// anywhere or not; of all services when name is empty.
func (a *Agent) ServiceIndex(name string) uint64 { return a.catalog().since(name) }

// describe writes why e is not handed out, "" when it is.
func (e endpoint) describe() string {
	var out []string
	switch m := e.member; {
	case m.State != cluster.Alive:
		out = append(out, api.StateText(string(m.State), string(m.Cause), m.Addr.String()))
	case m.Shadowed:
		out = append(out, "another live peer has its name")
	}
	if e.service.Draining {
		out = append(out, "draining")
	}
	if e.service.Health == checks.Critical {
		out = append(out, "health is critical")
	}
	return strings.Join(out, "; ")
}
