package web

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/peerhq/peer/agent/api"
)

// Members is the table of members.
type Members struct {
	Total string   `json:"total"`
	Alone bool     `json:"alone"` // nobody but this agent
	Rows  []Member `json:"rows"`  // those that need a look first

	Unseen []Unseen `json:"unseen"` // remembered, and not seen since this start
}

// Unseen is a member of an earlier run that was not seen since this start.
type Unseen struct {
	Key  string `json:"key"`
	Name string `json:"name"`
	Text string `json:"text"`
}

func unseen(us []api.StatusUnseen) []Unseen {
	out := make([]Unseen, len(us))
	for i, u := range us {
		absent := span(time.Duration(u.AbsentMS) * time.Millisecond)
		out[i] = Unseen{Key: key(i, u.Name), Name: plain(u.Name), Text: plain("at " + u.Addr + ", absent for " + absent)}
	}
	return out
}

// Member is one row. The numbers beside the words are for sorting and for bars.
type Member struct {
	Key      string `json:"key"`
	Name     string `json:"name"`
	Link     string `json:"link"`
	Self     bool   `json:"self"`
	State    string `json:"state"`
	Cause    string `json:"cause"`
	Held     bool   `json:"held"` // alive and yet not handed out
	Since    Moment `json:"since"`
	SinceS   string `json:"since_s"`
	Age      string `json:"age"`
	AgeMS    string `json:"age_ms"`
	LimitMS  string `json:"limit_ms"`
	Beats    bool   `json:"beats"` // a heartbeat is expected of it
	RTT      string `json:"rtt"`
	RTTMS    string `json:"rtt_ms"`
	Version  string `json:"version"`
	Skew     bool   `json:"skew"`
	Addr     string `json:"addr"`
	Tags     []Tag  `json:"tags"`
	Instance string `json:"instance"`
}

// Tag is one tag or service of a member.
type Tag struct {
	Key  string `json:"key"`
	Text string `json:"text"`
	Kind string `json:"kind"` // tag, service, standby or unwell: a service that is handed out last, or not
}

// rank orders states: what went wrong first, what is over last.
var rank = map[string]int{"failed": 0, "suspect": 1, "alive": 2, "left": 3}

func members(ms api.Members, st api.Status, now time.Time) Members {
	out := Members{Total: plural(len(ms.Members), "member"), Alone: len(ms.Members)+len(st.Cluster.Unseen) <= 1, Rows: make([]Member, 0, len(ms.Members)), Unseen: unseen(st.Cluster.Unseen)}
	for _, m := range ms.Members {
		out.Rows = append(out.Rows, member(m, st, now))
	}
	slices.SortStableFunc(out.Rows, func(a, b Member) int {
		return cmp.Or(cmp.Compare(rank[a.State], rank[b.State]), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Instance, b.Instance))
	})
	return out
}

func member(m api.Member, st api.Status, now time.Time) Member {
	r := Member{
		Key:      m.Name + " " + m.Instance,
		Name:     plain(m.Name),
		Link:     pathOf("/v1/members", m.Name),
		Self:     m.Self,
		State:    plain(m.State),
		Cause:    plain(api.CauseText(m.State, m.Cause, m.Addr)),
		Held:     m.State == "alive" && !m.Eligible,
		Since:    Moment{ISO: m.Since.UTC().Format(time.RFC3339), Text: span(now.Sub(m.Since))},
		SinceS:   strconv.FormatInt(int64(now.Sub(m.Since)/time.Second), 10),
		Beats:    !m.Self && (m.State == "alive" || m.State == "suspect"),
		Age:      "–",
		RTT:      "–",
		Version:  cmp.Or(plain(m.Version), "–"),
		Skew:     m.Version != "" && st.Node.Version != "" && m.Version != st.Node.Version && m.State != "left",
		Addr:     plain(m.Addr),
		Tags:     []Tag{},
		Instance: m.Instance,
		AgeMS:    "-1",
		RTTMS:    "-1",
		LimitMS:  strconv.FormatInt(max(st.Cluster.HeartbeatLimitMS, 1), 10),
	}
	if !m.Self && m.State != "left" {
		r.Age = span(time.Duration(m.HeartbeatAgeMS) * time.Millisecond)
		r.AgeMS = strconv.FormatInt(m.HeartbeatAgeMS, 10)
	}
	if m.RTTMS != nil && !m.Self {
		r.RTT = millis(*m.RTTMS)
		r.RTTMS = strconv.FormatFloat(*m.RTTMS, 'f', 3, 64)
	}
	for _, s := range m.Services {
		text, kind := service(s)
		r.Tags = append(r.Tags, Tag{Key: "service " + text, Text: plain(text), Kind: kind})
	}
	for _, k := range slices.Sorted(maps.Keys(m.Tags)) {
		r.Tags = append(r.Tags, Tag{Key: "tag " + k, Text: plain(k + "=" + m.Tags[k]), Kind: "tag"})
	}
	return r
}

// service is a service in words, and the kind of its tag.
func service(s api.Service) (text, kind string) {
	text, kind = s.Name, "service"
	if s.Port != 0 {
		text += ":" + strconv.Itoa(int(s.Port))
	}
	if s.Health != "" && s.Health != "passing" {
		text, kind = text+" "+s.Health, "unwell"
	}
	if s.Health == "warning" {
		kind = "standby"
	}
	if s.Draining {
		text += " draining"
		if kind == "service" {
			kind = "standby"
		}
	}
	return text, kind
}
