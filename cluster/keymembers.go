package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/memberlist"

	"github.com/peerhq/peer/cluster/internal/keys"
)

// newKeyring returns the keys of this peer, as Config has them.
func (c *Cluster) newKeyring() (*keys.Keyring, error) {
	return keys.New(keys.Config{
		Label: c.cfg.Label, Keys: c.cfg.Keys, File: c.cfg.KeyFile, Grace: c.cfg.KeyGrace,
		Members: keyMembers{c}, FS: c.cfg.FS, Now: c.cfg.Now, Rand: c.cfg.Rand, Logger: c.logger,
	})
}

// keyMembers is the cluster as its keyring sees it: who is there, and how to
// reach them. It reads the View, so it takes no lock of the table's.
type keyMembers struct{ c *Cluster }

var _ keys.Members = keyMembers{}

func keyMember(m Member) keys.Member {
	return keys.Member{Name: m.Name, Instance: uint64(m.Instance), Addr: m.Addr}
}

func (k keyMembers) Self() keys.Member { return keyMember(k.c.Self()) }

func (k keyMembers) Live() []keys.Member {
	var out []keys.Member
	for _, m := range k.c.View().Members {
		if !m.Self && (m.State == Alive || m.State == Suspect) {
			out = append(out, keyMember(m))
		}
	}
	return out
}

func (k keyMembers) Absent() []string {
	live := map[string]bool{}
	var out []string
	for _, m := range k.c.View().Members {
		switch m.State {
		case Alive, Suspect:
			live[m.Name] = true
		case Failed:
			out = append(out, m.Name)
		}
	}
	lost, _ := k.c.lost()
	for name, p := range lost {
		if p.State != Left && !live[name] {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (k keyMembers) Instance(instance uint64) (keys.Member, bool) {
	return k.newest(func(m Member) bool { return uint64(m.Instance) == instance })
}

func (k keyMembers) At(addr netip.AddrPort) (keys.Member, bool) {
	return k.newest(func(m Member) bool { return m.Addr == addr })
}

// newest returns the latest start among the other members that fit.
func (k keyMembers) newest(fits func(Member) bool) (out keys.Member, ok bool) {
	for _, m := range k.c.View().Members {
		if !m.Self && fits(m) && uint64(m.Instance) > out.Instance {
			out, ok = keyMember(m), true
		}
	}
	return out, ok
}

func (k keyMembers) Tell(to []keys.Member, frame []byte) {
	for _, m := range to {
		node := &memberlist.Node{Name: nodeName(m.Name, Instance(m.Instance)), Addr: m.Addr.Addr().AsSlice(), Port: m.Addr.Port()}
		if err := k.c.ml.SendBestEffort(node, frame); err != nil {
			k.c.logger.Debug("tell of the switch to encryption", "member", m.Name, "addr", m.Addr.String(), "err", err)
		}
	}
}

func (k keyMembers) Broadcast(owner string, frame []byte) {
	k.c.broadcasts.QueueBroadcast(recordBroadcast{owner: owner, frame: frame})
}

func (k keyMembers) Send(ctx context.Context, to keys.Member, frame []byte, key *keys.Key) error {
	return k.c.port.Send(ctx, to.Addr, frame, key)
}

// staleKey is called by the port for each message in a key that is being
// replaced.
func (c *Cluster) staleKey(fingerprint string, from netip.AddrPort, state []byte) {
	c.keys.Stale(fingerprint, from, uint64(stateOwner(state)))
}

// stateOwner returns the instance of the peer that made this half of a
// push/pull: its own record comes first. Zero for anything else.
func stateOwner(state []byte) Instance {
	if len(state) == 0 || state[0] != wireVersion {
		return 0
	}
	frame, _, err := cutFrame(state[1:])
	if err != nil || frame[0] != frameRecord {
		return 0
	}
	inst, _, _, err := parseRecord(frame[1:])
	if err != nil {
		return 0
	}
	return inst
}

// keyWarnings says what an operator must know of the keys.
func (c *Cluster) keyWarnings(s keys.Status) []Warning {
	var out []Warning
	switch names := s.Stalled; {
	case len(names) > 0:
		more := ""
		if n := len(names) - 10; n > 0 {
			names, more = names[:10], fmt.Sprintf(" and %d more", n)
		}
		out = append(out, Warning{
			Code: "gossip_sealing", Text: "gossip is not encrypted yet: the key is missing at " + strings.Join(names, ", ") + more,
			Fix: "install the key there with: peer keyring install",
		})
	case s.Switching:
		out = append(out, Warning{Code: "gossip_sealing", Text: "gossip is being switched to encryption", Fix: "wait until this warning has gone"})
	}
	if s.FileErr != nil {
		out = append(out, Warning{
			Code: "key_file", Text: "the gossip keys have changed and the key file has not: " + s.FileErr.Error(),
			Fix: "let this user write " + c.cfg.KeyFile + " and its directory, and rotate again, or copy another member's key file before this peer restarts",
		})
	}
	return out
}
