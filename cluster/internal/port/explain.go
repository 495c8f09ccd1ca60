package port

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/peerhq/peer/cluster/internal/text"
)

// memberlist gives back a failed join as one line of text, in which a wrong key
// and a web server look much the same. The bytes that came back tell them
// apart, so the port keeps a trace of each attempt.

// What a peer answers on a stream that it can not take in. The label and the
// keys themselves are no stranger's business. At most 31 bytes each.
const (
	refusedLabel  = "label of another cluster"
	refusedKey    = "another gossip key"
	refusedPlain  = "a gossip key is needed"
	refusedSealed = "no gossip key here"
)

// Attempt is one attempt to join, which leaves a trace. It is used by one
// goroutine.
type Attempt struct {
	// Name stands before the address that memberlist is given to join:
	// NAME/ADDR. No member has such a name.
	Name string

	port  *Port
	trace *trace
}

// Attempt returns a new attempt to join. Whoever asks for one calls Done.
func (p *Port) Attempt() *Attempt {
	a := &Attempt{
		Name:  "join " + strconv.FormatUint(p.joins.Add(1), 10), // a blank: no member's name has one
		port:  p,
		trace: &trace{},
	}
	p.traces.Store(a.Name, a.trace)
	return a
}

// Done forgets the trace.
func (a *Attempt) Done() { a.port.traces.Delete(a.Name) }

// Explain turns err, memberlist's, of the failed exchange with addr into a
// cause and a fix.
func (a *Attempt) Explain(addr netip.AddrPort, err error) error {
	return explainJoin(addr, err, a.trace, a.port.cfg.Label, a.port.cfg.Keys.Primary())
}

// trace is what happened on the stream of one attempt to join. memberlist hands
// the name before the '/' of an address to the transport, and that is how an
// attempt finds its trace.
type trace struct {
	mu      sync.Mutex
	dialErr error
	dialled bool
	got     []byte // the beginning of the answer
	size    int    // of it
	readErr error
	read    bool
}

const tracedBytes = 256

func (t *trace) dial(err error) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dialled, t.dialErr = true, err
}

// answered takes in what was read, as far as it went.
func (t *trace) answered(in *intake, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.read, t.readErr = true, err
	if len(in.kept) > 0 {
		t.got = append([]byte(nil), in.kept[0][:min(in.size, tracedBytes)]...)
	}
	t.size = in.size
}

// explainJoin turns a failed exchange with addr into a cause and a fix. key is
// the fingerprint of this peer's first key, "" without one.
func explainJoin(addr netip.AddrPort, err error, t *trace, label, key string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	say := func(format string, args ...any) error {
		return fmt.Errorf("join %s: %w", addr, fmt.Errorf(format, args...))
	}
	switch {
	case !t.dialled:
	case t.dialErr != nil:
		return say("%w", explainDial(t.dialErr))
	case !t.read: // it broke while this peer still wrote
		return say("the stream broke before all was sent: %s", lastCause(err))
	case len(t.got) == 0:
		return say("%w", explainSilence(t.readErr))
	case t.got[0] == msgEncrypted && key == "", t.said(refusedPlain):
		return say("the cluster at %s is encrypted and this peer has no key: copy a member's key file and give it with --encrypt-file", addr)
	case errors.Is(t.readErr, errSealed), t.said(refusedKey):
		return say("the cluster at %s uses another gossip key%s: copy a member's key file and give it with --encrypt-file", addr, having(key))
	case t.said(refusedLabel):
		return say("the cluster at %s has another label than %q: give --cluster the label that its members have", addr, label)
	case t.said(refusedSealed), errors.Is(t.readErr, errPlain):
		return say("the cluster at %s is not encrypted and this peer has a key%s: give its members this peer's key file, or start this peer without --encrypt-file", addr, having(key))
	case t.got[0] == msgError:
		return say("refused by the peer there: %s", text.Safe(errorText(t.got)))
	case !knownKind(t.got[0]):
		return say("what listens there is no peer's gossip port, it answered %.20q: give HOST:PORT of a peer's --bind", text.Safe(string(t.got)))
	case t.readErr != nil && !errors.Is(t.readErr, errIntake):
		return say("the answer broke off after %d bytes: %w", t.size, t.readErr)
	}
	return say("%s", lastCause(err))
}

// said says whether the answer is this refusal. The caller holds t.mu.
func (t *trace) said(why string) bool {
	return len(t.got) > 0 && t.got[0] == msgError && errorText(t.got) == why
}

// having names this peer's key by its fingerprint.
func having(key string) string {
	if key == "" {
		return ""
	}
	return " (this peer's has fingerprint " + key + ")"
}

// explainDial names what a failed dial means.
func explainDial(err error) error {
	var ne net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return errors.New("connection refused: no agent listens there")
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fmt.Errorf("no route to it: check the address and this host's network: %w", err)
	case errors.As(err, &ne) && ne.Timeout():
		return errors.New("no answer: the host is down, or a firewall drops TCP to this port")
	}
	return err
}

// explainSilence names what it means that a stream was opened and nothing
// came back.
func explainSilence(err error) error {
	var ne net.Error
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		return errors.New("connected, but nothing came back: the process there is stopped or stuck, or it is no peer's gossip port")
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return errors.New("connected, and cut off without a word: the peer there is stopping or overloaded, or it is no peer's gossip port")
	}
	return fmt.Errorf("connected, and nothing came back: %w", err)
}

func knownKind(b byte) bool {
	switch b {
	case msgPushPull, msgError, msgEncrypted, msgCompress, msgLabel:
		return true
	}
	return false
}

// lastCause is the end of memberlist's line: what comes after the address.
func lastCause(err error) string {
	line := strings.Join(strings.Fields(err.Error()), " ")
	if _, cause, ok := strings.Cut(line, "failed to join "); ok {
		if _, rest, ok := strings.Cut(cause, ": "); ok {
			line = rest
		}
	}
	return text.Safe(line)
}

// errorMessage is memberlist's message for an error; why is short.
func errorMessage(why string) []byte {
	b := []byte{msgError, 0x81, 0xa5}
	b = append(b, "Error"...)
	b = append(b, 0xa0|byte(len(why)&0x1f))
	return append(b, why...)
}

// errorText returns the text of such a message.
func errorText(b []byte) string {
	in := &intake{r: bytes.NewReader(b), hold: func(int) error { return nil }}
	if kind, err := in.one(); err != nil || kind != msgError {
		return ""
	}
	why := ""
	defer in.drop()
	_ = in.fields(func(name string, v packed) {
		if name == "Error" && v.kind == packedBytes {
			why = string(in.last(v.size))
		}
	})
	return why
}
