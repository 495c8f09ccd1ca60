package httpapi

import (
	"cmp"

	"github.com/peerhq/peer/agent/api"
)

// The shapes promise that arrays and objects are never null and that each
// document says its schema. These functions keep the promise on the way out,
// on copies: what an agent returns may be shared.

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func orEmptyMap(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// tidyMembers changes m.Members in place: the caller owns it.
func tidyMembers(m api.Members) api.Members {
	m.Schema = cmp.Or(m.Schema, api.SchemaMembers)
	m.Members = orEmpty(m.Members)
	for i := range m.Members {
		m.Members[i] = tidyMember(m.Members[i])
	}
	return m
}

func tidyMember(m api.Member) api.Member {
	m.Tags = orEmptyMap(m.Tags)
	services := make([]api.Service, len(m.Services))
	for i, s := range m.Services {
		s.Tags, s.Meta = orEmpty(s.Tags), orEmptyMap(s.Meta)
		services[i] = s
	}
	m.Services = services
	return m
}

func tidyStatus(s api.Status) api.Status {
	s.Schema = cmp.Or(s.Schema, api.SchemaStatus)
	s.Verdict.Reasons = orEmpty(s.Verdict.Reasons)
	s.Cluster.Seeds = orEmpty(s.Cluster.Seeds)
	s.Cluster.Unseen = orEmpty(s.Cluster.Unseen)
	s.Checks = orEmpty(s.Checks)
	s.Warnings = orEmpty(s.Warnings)
	return s
}

func tidyNext(n api.Next) api.Next {
	n.Schema = cmp.Or(n.Schema, api.SchemaNext)
	peers := make([]api.NextPeer, len(n.Peers))
	for i, p := range n.Peers {
		p.Tags = orEmptyMap(p.Tags)
		peers[i] = p
	}
	n.Peers = peers
	return n
}

func tidyLocks(l api.Locks) api.Locks {
	l.Schema = cmp.Or(l.Schema, api.SchemaLocks)
	locks := make([]api.Lock, len(l.Locks))
	for i, k := range l.Locks {
		k.Waiters = orEmpty(k.Waiters)
		locks[i] = k
	}
	l.Locks = locks
	return l
}
