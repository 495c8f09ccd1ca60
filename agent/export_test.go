package agent

import (
	"github.com/hashicorp/go-hclog"

	"github.com/peerhq/peer/cluster"
)

// KeptServices reads what a data dir keeps and writes it back.
func KeptServices(disk cluster.FS, dir string) []cluster.Service {
	r := newRegistry(disk, dir, nil, nil, hclog.NewNullLogger())
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.save()
	return r.announced()
}

// The rules of the status, which need no agent.
var (
	Verdict     = verdict
	CheckJoined = checkJoined
	NameCase    = nameCase
	Unseen      = unseen
)

// MemberText is the line of the feed for e.
func MemberText(e cluster.Event) string { return memberText(e) }

// Explain says why m is not handed out.
func Explain(m cluster.Member) string { return endpoint{member: m}.describe() }
