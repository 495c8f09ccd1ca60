package port

import (
	stdlog "log"
	"net/netip"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
)

const (
	warnEvery     = time.Minute // one warning a source, and one a kind, in so long
	maxLogSources = 64          // sources remembered at a time; the rest are counted together
	maxLogKinds   = 64
	maxLogLine    = 512
)

// memberlistRule says what a line of memberlist means here. memberlist knows
// no embedder: it reports normal life as warnings, and whatever a stranger
// sends as errors, one for each packet.
type memberlistRule struct {
	text  string // the line begins with it
	level hclog.Level
	// A constant message for a line that others can cause at will; the line
	// itself becomes the err of it. Empty: the line is the message.
	message string
}

const (
	wrongKey   = "gossip dropped: sent without this cluster's key; give all peers the same key file"
	wrongLabel = "gossip dropped: it belongs to a cluster with another label"
	badGossip  = "gossip dropped: malformed"
	badMember  = "announcement dropped"
	tooMuch    = "gossip dropped: more than can be handled"
)

// The first rule that fits decides. Whatever fits none keeps its level, up to
// a warning: nothing that memberlist says stops a peer.
var memberlistRules = []memberlistRule{
	// Once a stream, once a tick.
	{"Stream connection", hclog.Trace, ""},
	{"Initiating push/pull", hclog.Trace, ""},
	{"configured Transport is not", hclog.Trace, ""},
	{"Binding to public address without encryption", hclog.Trace, ""}, // it does not know: the transport encrypts

	// The ordinary work of failure detection. The verdict, and what led to
	// it, is told by this package's own events.
	{"Refuting ", hclog.Debug, ""},
	{"Failed UDP ping", hclog.Debug, ""},
	{"Failed fallback TCP ping", hclog.Debug, ""},
	{"Got ping for unexpected node", hclog.Debug, ""},
	{"Suspect ", hclog.Debug, ""},
	{"Marking ", hclog.Debug, ""},
	{"Updating address for", hclog.Debug, ""},
	{"failed to join", hclog.Debug, ""}, // the reconciler tells it with its seed
	{"Push/Pull with", hclog.Debug, ""},
	{"Leave but we're not in", hclog.Debug, ""},
	{"Err: Could not set the deadline", hclog.Debug, ""}, // it is closed already
	{"Using dynamic bind port", hclog.Debug, ""},
	{"Got bind error", hclog.Debug, ""},

	// A stream that ended early: a peer that died, or one that was in no hurry.
	{"failed to receive: read ", hclog.Debug, ""},
	{"failed to receive: EOF", hclog.Debug, ""},
	{"failed to receive: unexpected EOF", hclog.Debug, ""},
	{"failed to receive: i/o timeout", hclog.Debug, ""},
	{"Failed to read remote state: read ", hclog.Debug, ""},
	{"Failed to read remote state: i/o timeout", hclog.Debug, ""},
	{"Failed to push local state", hclog.Debug, ""},
	{"Failed to send error", hclog.Debug, ""},

	// Without the key.
	{"Decrypt packet failed", hclog.Warn, wrongKey},
	{"failed to receive: no installed keys", hclog.Warn, wrongKey},
	{"failed to receive: encryption is configured but", hclog.Warn, wrongKey},
	{"failed to receive: remote state is encrypted", hclog.Warn, "gossip dropped: it is encrypted and this peer has no key; give it the cluster's key file"},
	{"failed to receive: unsupported encryption", hclog.Warn, wrongKey},
	{"failed to receive: payload is too small", hclog.Warn, wrongKey},
	{"failed to receive: cannot decrypt", hclog.Warn, wrongKey},

	// Of another cluster.
	{"discarding stream with unacceptable label", hclog.Warn, wrongLabel},
	{"discarding packet with unacceptable label", hclog.Warn, wrongLabel},
	{"unexpected double stream label", hclog.Warn, wrongLabel},
	{"unexpected double packet label", hclog.Warn, wrongLabel},

	// Of no cluster.
	{"failed to receive and remove the stream label", hclog.Warn, badGossip},
	{"failed to receive", hclog.Warn, badGossip},
	{"cannot decode label", hclog.Warn, badGossip},
	{"label header cannot be empty", hclog.Warn, badGossip},
	{"missing message type", hclog.Warn, badGossip},
	{"msg type (", hclog.Warn, badGossip},
	{"Message type (", hclog.Warn, badGossip},
	{"Received invalid msgType", hclog.Warn, badGossip},
	{"Failed to decode", hclog.Warn, badGossip},
	{"Failed to decompress", hclog.Warn, badGossip},
	{"Failed to receive user message", hclog.Warn, badGossip},
	{"Failed to read remote state", hclog.Warn, badGossip},
	{"Failed push/pull merge", hclog.Warn, badGossip},
	{"Got invalid checksum", hclog.Warn, badGossip},
	{"UDP packet too short", hclog.Warn, badGossip},
	{"Compound request had", hclog.Warn, badGossip},
	{"Ignoring an alive message", hclog.Warn, badMember},
	{"ignoring alive message", hclog.Warn, badMember},
	{"Rejected ", hclog.Warn, badMember},
	{"Conflicting address", hclog.Warn, badMember},
	{"Too many pending push/pull", hclog.Warn, tooMuch},
	{"handler queue full", hclog.Warn, tooMuch},
	{"Remote node state size", hclog.Warn, tooMuch},

	// This host can not send. Once a tick and peer while it lasts.
	{"Failed to send UDP", hclog.Warn, "gossip cannot be sent: check this host's network and firewall"},
	{"Failed to send gossip", hclog.Warn, "gossip cannot be sent: check this host's network and firewall"},
	{"Failed to send", hclog.Warn, "gossip answer cannot be sent: check this host's network and firewall"},
	{"Failed to forward ack", hclog.Warn, "gossip answer cannot be sent: check this host's network and firewall"},
	{"Was able to connect to", hclog.Warn, "gossip over UDP fails while TCP works: open UDP on the gossip port in both directions"},
}

// newMemberlistLogger returns a logger for memberlist's Config.Logger that
// writes its lines to log at the level that they deserve. What a stranger can
// cause is one warning a minute for each source, with the number of those that
// it suppressed, and what it sent can not forge a line. Suppressed lines are
// still there at trace level. now is asked for the minutes, from any
// goroutine.
func newMemberlistLogger(log hclog.Logger, now func() time.Time) *stdlog.Logger {
	return stdlog.New(&memberlistWriter{
		log:     log,
		now:     now,
		sources: limiter[netip.Addr]{most: maxLogSources},
		kinds:   limiter[string]{most: maxLogKinds},
	}, "", 0)
}

// memberlistWriter takes one line a Write.
type memberlistWriter struct {
	log hclog.Logger
	now func() time.Time

	mu      sync.Mutex
	sources limiter[netip.Addr] // lines that came of somebody's packet or stream
	kinds   limiter[string]     // lines of this host's own, by rule
}

// Write re-levels the one line in p. It never fails.
func (w *memberlistWriter) Write(p []byte) (int, error) {
	line := parseMemberlistLine(p)
	if line.level < hclog.Warn {
		w.log.Log(line.level, line.message, line.args(0)...)
		return len(p), nil
	}
	now := w.now()
	w.mu.Lock()
	var show, crowd bool
	var suppressed int
	if line.from.IsValid() {
		show, crowd, suppressed = w.sources.allow(sourceOf(line.from.Addr()), now)
	} else {
		show, crowd, suppressed = w.kinds.allow(line.kind, now)
	}
	w.mu.Unlock()

	switch {
	case !show:
		w.log.Trace(line.message, line.args(0)...)
	case crowd:
		w.log.Warn("many sources cause gossip warnings, those of the others are counted only", append(line.args(suppressed), "last", line.message)...)
	default:
		w.log.Warn(line.message, line.args(suppressed)...)
	}
	return len(p), nil
}

// memberlistLine is a line, understood.
type memberlistLine struct {
	level   hclog.Level
	message string
	kind    string // the rule's text, or the beginning of a line without a rule
	err     string
	from    netip.AddrPort
}

func (l memberlistLine) args(suppressed int) []any {
	args := make([]any, 0, 8)
	if l.from.IsValid() {
		args = append(args, "addr", l.from.String())
	}
	if l.err != "" {
		args = append(args, "err", l.err)
	}
	if suppressed > 0 {
		args = append(args, "suppressed", suppressed)
	}
	return args
}

// parseMemberlistLine takes a line apart: "[LEVEL] memberlist: text from=ADDR",
// of which everything but the text may be missing.
func parseMemberlistLine(p []byte) memberlistLine {
	text, level := cutLevel(tidy(p))
	text = strings.TrimSpace(strings.TrimPrefix(text, "memberlist:"))
	var from netip.AddrPort
	text, from = cutFrom(text)
	if text == "" {
		text = "memberlist said nothing"
	}
	if len(text) > maxLogLine {
		n := maxLogLine
		for n > 0 && !utf8.RuneStart(text[n]) {
			n--
		}
		text = text[:n] + "…"
	}

	for _, r := range memberlistRules {
		if !strings.HasPrefix(text, r.text) {
			continue
		}
		l := memberlistLine{level: r.level, message: text, kind: r.text, from: from}
		if r.message != "" {
			l.message, l.err = r.message, text
		}
		return l
	}
	kind, _, _ := strings.Cut(text, ":")
	return memberlistLine{level: level, message: text, kind: kind[:min(len(kind), 64)], from: from}
}

// cutLevel parts the level from the text. Without one it is info.
func cutLevel(s string) (string, hclog.Level) {
	if !strings.HasPrefix(s, "[") {
		return s, hclog.Info
	}
	name, text, ok := strings.Cut(s[1:], "]")
	if !ok {
		return s, hclog.Info
	}
	level := hclog.Info
	switch name {
	case "TRACE":
		level = hclog.Trace
	case "DEBUG":
		level = hclog.Debug
	case "INFO":
	case "WARN":
		level = hclog.Warn
	case "ERR", "ERROR":
		level = hclog.Error
	default:
		return s, hclog.Info
	}
	return strings.TrimSpace(text), level
}

// cutFrom parts the source from the end of the text, where memberlist puts it.
// Elsewhere it may be part of what a stranger sent.
func cutFrom(s string) (string, netip.AddrPort) {
	rest := strings.TrimSuffix(s, " (packet handler)")
	i := strings.LastIndex(rest, "from=")
	if i < 0 || i > 0 && rest[i-1] != ' ' {
		return s, netip.AddrPort{}
	}
	addr := rest[i+len("from="):]
	if addr != "<unknown address>" && strings.Contains(addr, " ") {
		return s, netip.AddrPort{}
	}
	text := strings.TrimRight(rest[:i], " :")
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return text, netip.AddrPort{}
	}
	return text, netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// tidy returns p as one line that can be printed: names and errors in it may
// come from strangers.
func tidy(p []byte) string {
	const enough = 4 * maxLogLine // a source at the end is kept of all but absurd lines
	s := strings.TrimSpace(string(p))
	if len(s) > enough {
		s = s[:enough/2] + "…" + s[len(s)-enough/2:]
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// sourceOf returns what tells one sender from another: of IPv6 the network,
// because every host owns as many addresses in it as it likes.
func sourceOf(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// limiter lets one line a minute through for each key. It knows the keys of
// the last minute, at most so many; those beyond share one line.
type limiter[K comparable] struct {
	most  int
	known map[K]*allowance
	crowd allowance
}

type allowance struct {
	since      time.Time // of the last line that was shown
	suppressed int       // since then
}

// allow says whether a line of key k may be shown now, whether it stands for
// the crowd of keys that were not remembered, and how many were not shown
// since the last one that was.
func (l *limiter[K]) allow(k K, now time.Time) (show, crowd bool, suppressed int) {
	if a := l.known[k]; a != nil {
		show, suppressed = a.allow(now)
		return show, false, suppressed
	}
	if len(l.known) >= l.most {
		for k, a := range l.known {
			if !a.fresh(now) {
				l.crowd.suppressed += a.suppressed
				delete(l.known, k)
			}
		}
	}
	if len(l.known) >= l.most {
		show, suppressed = l.crowd.allow(now)
		return show, true, suppressed
	}
	if l.known == nil {
		l.known = make(map[K]*allowance)
	}
	l.known[k] = &allowance{since: now}
	return true, false, 0
}

// fresh says whether a line was shown in the minute before now. A clock that
// was set back makes nothing fresh for ever.
func (a *allowance) fresh(now time.Time) bool {
	age := now.Sub(a.since)
	return age >= 0 && age < warnEvery
}

func (a *allowance) allow(now time.Time) (show bool, suppressed int) {
	if a.fresh(now) {
		a.suppressed++
		return false, 0
	}
	suppressed = a.suppressed
	*a = allowance{since: now}
	return true, suppressed
}
