package balance

import (
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/peerhq/peer/agent/api"
)

// Peer is somebody whose turn it may be: an instance of a service, or a member.
// All who are handed it share it: it must not be changed.
type Peer struct {
	Name       string // of the member that it is or runs beside
	Addr       string // without the port
	Port       uint16
	Service    string            // "" for a member itself
	Tags       []string          // of the service
	Meta       map[string]string // of the service
	MemberTags map[string]string
	Weight     int
	Health     string        // of the service: passing, warning or, unchecked, ""
	RTT        time.Duration // from the agent, as of the last view; 0 if unknown
	Self       bool          // it is on this host

	hostPort string
	home     bool
}

// HostPort is where p listens, as net.Dial wants it.
func (p *Peer) HostPort() string {
	if p.hostPort != "" {
		return p.hostPort
	}
	return net.JoinHostPort(p.Addr, strconv.Itoa(int(p.Port)))
}

func (p *Peer) name() string { return p.Name }

func (p *Peer) warns() bool { return p.Health == "warning" }

// same says whether p is as q is; round trips do not count.
func (p *Peer) same(q *Peer) bool {
	return p.Name == q.Name && p.hostPort == q.hostPort && p.Service == q.Service && p.Weight == q.Weight &&
		p.Health == q.Health && p.Self == q.Self && p.home == q.home &&
		slices.Equal(p.Tags, q.Tags) && maps.Equal(p.Meta, q.Meta) && maps.Equal(p.MemberTags, q.MemberTags)
}

// admits says whether c wants p, and makes p ready to be handed out.
func (c Config) admits(p *Peer, home string) bool {
	for _, t := range c.Tags {
		if !slices.Contains(p.Tags, t) {
			return false
		}
	}
	for k, v := range c.MemberTags {
		if got, ok := p.MemberTags[k]; !ok || got != v {
			return false
		}
	}
	p.hostPort = p.HostPort()
	p.home = c.ZoneTag == "" || p.MemberTags[c.ZoneTag] == home
	return true
}

// ofInstances returns whom c wants of a service, sorted by name.
func (c Config) ofInstances(instances []api.ServiceInstance, home string) []*Peer {
	out := make([]*Peer, 0, len(instances))
	for _, i := range instances {
		p := &Peer{
			Name: i.Node, Addr: i.Addr, Port: i.Port, Service: c.Service, Tags: i.Tags, Meta: i.Meta,
			MemberTags: i.NodeTags, Weight: i.Weight, Health: i.Health, RTT: ofMillis(i.RTTMS), Self: i.Self,
		}
		if i.Eligible && c.admits(p, home) {
			out = append(out, p)
		}
	}
	return sorted(out)
}

// ofMembers returns whom c wants of all members, sorted by name.
func (c Config) ofMembers(members []api.Member, home string) []*Peer {
	out := make([]*Peer, 0, len(members))
	for _, m := range members {
		host, port, err := net.SplitHostPort(m.Addr)
		n, perr := strconv.ParseUint(port, 10, 16)
		if err != nil || perr != nil {
			continue // nobody can be sent there
		}
		p := &Peer{
			Name: m.Name, Addr: host, Port: uint16(n), MemberTags: m.Tags, Weight: 1, RTT: ofMillis(m.RTTMS), Self: m.Self,
		}
		if m.Eligible && c.admits(p, home) {
			out = append(out, p)
		}
	}
	return sorted(out)
}

func sorted(peers []*Peer) []*Peer {
	slices.SortFunc(peers, func(a, b *Peer) int { return strings.Compare(a.Name, b.Name) })
	return peers
}

func ofMillis(ms *float64) time.Duration {
	if ms == nil {
		return 0
	}
	return time.Duration(*ms * float64(time.Millisecond))
}
