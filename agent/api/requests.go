package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// joinExtra is the time that a join takes on top: it dials other hosts.
const joinExtra = 15 * time.Second

// maxAnswer bounds what the client reads of one answer, in bytes.
const maxAnswer = 64 << 20

// MembersQuery narrows GET /v1/members. Its zero value asks for everybody, now.
type MembersQuery struct {
	States  []string          // any of them
	Tags    map[string]string // all of them
	Service string
	Name    string // exact, or with * and ? for any characters and any one

	// Index and Wait make the read block: it answers when the members are newer
	// than Index, or after Wait, at the most ten minutes.
	Index uint64
	Wait  time.Duration
}

// Values returns q as a query string.
func (q MembersQuery) Values() url.Values {
	v := url.Values{}
	for _, s := range q.States {
		v.Add("state", s)
	}
	addTags(v, q.Tags)
	set(v, "service", q.Service)
	set(v, "name", q.Name)
	if q.Wait > 0 {
		v.Set("index", strconv.FormatUint(q.Index, 10))
		v.Set("wait", q.Wait.String())
	}
	return v
}

// NextQuery says which peers may be handed out. Its zero value takes one turn
// among all.
type NextQuery struct {
	Service string
	Policy  string            // empty means round robin
	Key     string            // for policies that pick by key
	Tags    map[string]string // all of them
	Exclude []string          // names
	Count   int               // 0 means 1

	// ServiceTags narrow a Service to instances with all of these tags.
	ServiceTags []string
	// Explain asks where everybody stands and why, and takes no turn.
	Explain bool
}

// Values returns q as a query string.
func (q NextQuery) Values() url.Values {
	v := url.Values{}
	set(v, "service", q.Service)
	set(v, "policy", q.Policy)
	set(v, "key", q.Key)
	addTags(v, q.Tags)
	for _, name := range q.Exclude {
		v.Add("exclude", name)
	}
	if q.Count != 0 {
		v.Set("count", strconv.Itoa(q.Count))
	}
	for _, t := range q.ServiceTags {
		v.Add("service_tag", t)
	}
	if q.Explain {
		v.Set("explain", "true")
	}
	return v
}

func set(v url.Values, key, value string) {
	if value != "" {
		v.Set(key, value)
	}
}

func addTags(v url.Values, tags map[string]string) {
	for k, t := range tags {
		v.Add("tag", k+":"+t)
	}
}

// Status asks for the agent's picture of itself and the cluster.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return get[Status](ctx, c, "/v1/status", nil, 0)
}

// Members asks for the members that q lets through.
func (c *Client) Members(ctx context.Context, q MembersQuery) (Members, error) {
	return get[Members](ctx, c, "/v1/members", q.Values(), q.Wait)
}

// Member asks for the member called name. An unknown one is a *Problem of kind
// KindNoMember. Of two live instances with one name it is the one that is
// handed out; Members with that Name has both.
func (c *Client) Member(ctx context.Context, name string) (Member, error) {
	return get[Member](ctx, c, "/v1/members/"+PathSegment(name), nil, 0)
}

// Forget drops a member that is failed or left, for the whole cluster, or one of
// an earlier run that the agent has not seen since. Any other is a *Problem of kind
// KindLiving, one that is not known of kind KindNoMember.
func (c *Client) Forget(ctx context.Context, name string) error {
	_, err := c.Raw(ctx, http.MethodPost, "/v1/members/"+PathSegment(name)+"/forget", nil, []byte("{}"))
	return err
}

// Next takes a turn. Nobody live is a *Problem of kind KindNoPeers, nobody that
// q lets through one of KindNoMatch.
func (c *Client) Next(ctx context.Context, q NextQuery) (Next, error) {
	return get[Next](ctx, c, "/v1/next", q.Values(), 0)
}

// Locks asks for every lock that is held or waited for in the shared Redis.
func (c *Client) Locks(ctx context.Context) (Locks, error) {
	return get[Locks](ctx, c, "/v1/locks", nil, 0)
}

// Lock asks for one lock. One that nobody holds or waits for is a *Problem of
// kind KindNoLock.
func (c *Client) Lock(ctx context.Context, name string) (Lock, error) {
	return get[Lock](ctx, c, "/v1/locks/"+PathSegment(name), nil, 0)
}

// Join asks the agent to join the cluster through any of addrs. When none
// answers the error is a *Problem of kind KindJoinFailed and the result still
// says why, address by address.
func (c *Client) Join(ctx context.Context, addrs []string) (JoinResult, error) {
	body, err := json.Marshal(JoinRequest{Addrs: addrs})
	if err != nil {
		return JoinResult{}, fmt.Errorf("encode join request: %w", err)
	}
	var out JoinResult
	raw, err := c.do(ctx, http.MethodPost, "/v1/join", nil, body, joinExtra)
	var p *Problem
	if err != nil && !(errors.As(err, &p) && p.Kind() == KindJoinFailed) {
		return out, err
	}
	if derr := json.Unmarshal(raw, &out); derr != nil {
		return out, c.foreign("an answer that is no JSON: " + derr.Error())
	}
	return out, err
}

// Leave asks the agent to say goodbye and stop. It returns when the agent has
// begun to.
func (c *Client) Leave(ctx context.Context) error {
	_, err := c.Raw(ctx, http.MethodPost, "/v1/leave", nil, nil)
	return err
}

// Raw sends any request and returns the body of the answer, unchanged. Answers
// of 400 and above are a *Problem, with the body returned beside it. A body
// that is not nil is sent as JSON.
func (c *Client) Raw(ctx context.Context, method, path string, query url.Values, body []byte) ([]byte, error) {
	wait, _ := time.ParseDuration(query.Get("wait"))
	return c.do(ctx, method, path, query, body, wait)
}

// PathSegment makes name, of a lock, a member or a service, one segment of a path,
// also where it is a dot or two.
func PathSegment(name string) string {
	if name == "." || name == ".." {
		return strings.ReplaceAll(name, ".", "%2E")
	}
	return url.PathEscape(name)
}

func get[T any](ctx context.Context, c *Client, path string, query url.Values, wait time.Duration) (T, error) {
	var out T
	raw, err := c.do(ctx, http.MethodGet, path, query, nil, wait)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return out, c.foreign("an answer that is no JSON: " + err.Error())
	}
	return out, nil
}

func (c *Client) do(ctx context.Context, method, path string, query url.Values, body []byte, wait time.Duration) ([]byte, error) {
	rctx := ctx
	if c.timeout > 0 {
		var cancel context.CancelFunc
		rctx, cancel = context.WithTimeoutCause(ctx, c.timeout+max(wait, 0), errTimeout)
		defer cancel()
	}
	resp, err := c.send(rctx, method, path, query, body, "application/json, text/plain;q=0.5, */*;q=0.1")
	if err != nil {
		return nil, c.explain(ctx, rctx, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, c.explain(ctx, rctx, err)
	}
	if len(raw) > maxAnswer {
		return nil, c.foreign("an answer of more than 64 MiB")
	}
	if resp.StatusCode >= 300 {
		return raw, c.refused(resp, raw)
	}
	return raw, nil
}

// send does one request. The caller closes the answer's body.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, body []byte, accept string) (*http.Response, error) {
	u := c.addr.base
	escaped := u.EscapedPath() + path
	unescaped, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, fmt.Errorf("escape path %q: %w", path, err)
	}
	u.Path, u.RawPath, u.RawQuery = unescaped, escaped, query.Encode()
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), r)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", "peer-client")
	if method != http.MethodGet && method != http.MethodHead {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return c.http.Do(req)
}

// explain turns what went wrong on the way into the caller's own context error
// or an *UnreachableError.
func (c *Client) explain(caller, request context.Context, err error) error {
	if caller.Err() != nil {
		return context.Cause(caller)
	}
	if request.Err() != nil {
		err = context.Cause(request)
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // the URL says nothing that Addr does not
	}
	return &UnreachableError{Addr: c.addr.shown, Err: err}
}

// refused reads the problem in an answer that is no success.
func (c *Client) refused(resp *http.Response, raw []byte) error {
	mt, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if mt == "application/problem+json" {
		p := new(Problem)
		if err := json.Unmarshal(raw, p); err == nil && strings.HasPrefix(p.Type, ProblemType) {
			p.Index, _ = strconv.ParseUint(resp.Header.Get("X-Peer-Index"), 10, 64)
			return p
		}
	}
	return c.foreign(strings.TrimSpace("it answers " + resp.Status + " " + mt))
}

func (c *Client) foreign(what string) error {
	return &UnreachableError{Addr: c.addr.shown, Err: &foreignError{what}}
}
