package httpapi_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/agent/httpapi"
)

// problemOf reads a problem document and fails on anything else.
func problemOf(t *testing.T, a answer) api.Problem {
	t.Helper()
	var p api.Problem
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" {
		t.Fatalf("content type %q, want application/problem+json; %d %s", ct, a.code, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("problem does not parse: %v: %s", err, a.body)
	}
	if p.Status != a.code || p.Kind() == "" || p.Title == "" || p.Fix == "" {
		t.Fatalf("problem %+v of answer %d lacks something", p, a.code)
	}
	return p
}

func TestRefusals(t *testing.T) {
	e := start(t, newFakeAgent(), func(c *httpapi.Config) { c.AllowedHosts = []string{"peer.example.com"} })
	const js = "Content-Type: application/json"
	tests := []struct {
		name    string
		request string // METHOD TARGET
		body    string
		headers []string
		code    int
		kind    string
		says    string // in detail or fix
	}{
		{"unknown path", "GET /v1/membres", "", nil, 404, "not-found", "did you mean /v1/members?"},
		{"unknown path far off", "GET /wp-login.php", "", nil, 404, "not-found", "/openapi.json"},
		{"unclean path", "GET /v1//members", "", nil, 404, "not-found", ""},
		{"dots", "GET /v1/members/..", "", nil, 404, "not-found", ""},
		{"trailing slash", "GET /v1/members/", "", nil, 404, "not-found", "did you mean /v1/members?"},
		{"wrong method", "POST /v1/members", "", []string{js}, 405, "method-not-allowed", "use GET, HEAD"},
		{"wrong method for a write", "GET /v1/join", "", nil, 405, "method-not-allowed", "use POST"},
		{"trace", "TRACE /v1/members", "", []string{js}, 405, "method-not-allowed", ""},
		{"unknown parameter", "GET /v1/members?stat=alive", "", nil, 400, "bad-request", `did you mean \"state\"?`},
		{"parameter where there is none", "GET /v1/status?x=1", "", nil, 400, "bad-request", "no parameters"},
		{"bad escape", "GET /v1/members?name=%zz", "", nil, 400, "bad-request", ""},
		{"semicolon", "GET /v1/members?name=a;state=left", "", nil, 400, "bad-request", ""},
		{"bad state", "GET /v1/members?state=dead", "", nil, 400, "bad-request", "use alive, suspect"},
		{"misspelt state", "GET /v1/members?state=aliv", "", nil, 400, "bad-request", `did you mean \"alive\"?`},
		{"tag without value", "GET /v1/members?tag=zone", "", nil, 400, "bad-request", "tag=KEY:VALUE"},
		{"contradicting tags", "GET /v1/members?tag=zone:a&tag=zone:b", "", nil, 400, "bad-request", ""},
		{"name twice", "GET /v1/members?name=a&name=b", "", nil, 400, "bad-request", "give it once"},
		{"index no number", "GET /v1/members?index=-1", "", nil, 400, "bad-request", "index=42"},
		{"wait without index", "GET /v1/members?wait=5s", "", nil, 400, "bad-request", "X-Peer-Index"},
		{"wait without unit", "GET /v1/members?index=1&wait=5", "", nil, 400, "bad-request", "wait=30s"},
		{"wait too long", "GET /v1/members?index=1&wait=24h", "", nil, 400, "bad-request", "10m"},
		{"count 0", "GET /v1/next?count=0", "", nil, 400, "bad-request", "from 1 to"},
		{"count too high", "GET /v1/next?count=1001", "", nil, 400, "bad-request", "from 1 to"},
		{"since no number", "GET /v1/events?since=now", "", nil, 400, "bad-request", ""},
		{"bad last event", "GET /v1/events", "", []string{"Last-Event-ID: x"}, 400, "bad-request", ""},
		{"verbose neither", "GET /readyz?verbose=maybe", "", nil, 400, "bad-request", "?verbose"},
		{"no such member", "GET /v1/members/aa", "", nil, 404, "no-such-member", "/v1/members"},
		{"no such lock", "GET /v1/locks/x%2Fy", "", nil, 404, "no-such-lock", "x/y"},
		{"old asset", "GET /static/page.0123456789ab.js", "", nil, 404, "not-found", "reload"},

		{"write without type", "POST /v1/leave", "", nil, 415, "not-json", "application/json"},
		{"write as a form", "POST /v1/join", "addrs=x", []string{"Content-Type: application/x-www-form-urlencoded"}, 415, "not-json", ""},
		{"write as text", "POST /v1/join", `{"addrs":["x"]}`, []string{"Content-Type: text/plain"}, 415, "not-json", ""},
		{"write in another charset", "POST /v1/leave", "", []string{js + "; charset=utf-16"}, 415, "not-json", ""},
		{"no JSON", "POST /v1/join", "addrs", []string{js}, 400, "bad-request", "does not parse"},
		{"unknown field", "POST /v1/join", `{"addr":["x"]}`, []string{js}, 400, "bad-request", `unknown field \"addr\"`},
		{"two values", "POST /v1/join", `{"addrs":["x"]} {}`, []string{js}, 400, "bad-request", "one JSON value"},
		{"wrong shape", "POST /v1/join", `{"addrs":"x"}`, []string{js}, 400, "bad-request", ""},
		{"no addresses", "POST /v1/join", `{}`, []string{js}, 400, "bad-request", "addrs is empty"},
		{"null", "POST /v1/join", `null`, []string{js}, 400, "bad-request", "addrs is empty"},
		{"address with a line", "POST /v1/join", `{"addrs":["x\ny"]}`, []string{js}, 400, "bad-request", "no address"},
		{"too many addresses", "POST /v1/join", `{"addrs":[` + strings.Repeat(`"x",`, 64) + `"x"]}`, []string{js}, 400, "bad-request", "more than 64"},
		{"too large", "POST /v1/join", `{"addrs":["` + strings.Repeat("x", 64<<10) + `"]}`, []string{js}, 413, "body-too-large", "65536"},
		{"a read with a body", "GET /v1/members", "{}", []string{js}, 400, "bad-request", "no body"},

		{"rebound name", "GET /v1/status", "", []string{"Host: evil.example.net:7980"}, 421, "host-not-allowed", "http.allowed_hosts"},
		{"rebound name on a probe", "GET /livez", "", []string{"Host: evil.example.net"}, 421, "host-not-allowed", ""},
		{"foreign address", "GET /v1/status", "", []string{"Host: 192.0.2.7"}, 421, "host-not-allowed", ""},
		{"loopback lookalike", "GET /v1/status", "", []string{"Host: localhost.example.net"}, 421, "host-not-allowed", ""},
		{"foreign origin writes", "POST /v1/leave", "", []string{js, "Origin: http://evil.example.net"}, 403, "forbidden", "evil.example.net"},
		{"foreign origin reads", "GET /v1/status", "", []string{"Origin: http://localhost:3000"}, 403, "forbidden", ""},
		{"opaque origin", "POST /v1/leave", "", []string{js, "Origin: null"}, 403, "forbidden", ""},
		{"cross-site read", "GET /v1/next", "", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"}, 403, "forbidden", ""},
		{"same site, other port", "GET /v1/next", "", []string{"Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors"}, 403, "forbidden", ""},
		{"framed", "GET /", "", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"}, 403, "forbidden", ""},
		{"cross-site form", "POST /v1/leave", "", []string{js, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, 403, "forbidden", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			method, target, _ := strings.Cut(tt.request, " ")
			a := e.ask(e.http, method, target, tt.body, tt.headers...)
			p := problemOf(t, a)
			if a.code != tt.code || p.Kind() != tt.kind {
				t.Errorf("%s: got %d %s, want %d %s; %s", tt.request, a.code, p.Kind(), tt.code, tt.kind, a.body)
			}
			if !strings.Contains(a.body, tt.says) {
				t.Errorf("%s: %s does not say %q", tt.request, a.body, tt.says)
			}
			if allow := a.header.Get("Allow"); (a.code == 405) != (allow != "") {
				t.Errorf("%s: %d with Allow %q", tt.request, a.code, allow)
			}
		})
	}
}

func TestLetsIn(t *testing.T) {
	a := newFakeAgent()
	e := start(t, a, func(c *httpapi.Config) {
		c.Addr = "10.1.2.3:7980"
		c.AllowedHosts = []string{"Peer.example.com.", "[2001:db8::7]"}
	})
	for _, h := range []string{
		"localhost", "LOCALHOST:7980", "localhost.", "127.0.0.1:7980", "127.8.9.1", "[::1]:7980", "[::ffff:127.0.0.1]",
		"10.1.2.3:7980", "peer.example.com", "PEER.example.com:8443", "[2001:db8::7]:7980", "[2001:db8::7]",
	} {
		if got := e.get("/v1/status", "Host: "+h); got.code != http.StatusOK {
			t.Errorf("host %s: %d %s", h, got.code, got.body)
		}
	}
	for _, headers := range [][]string{
		{"Origin: http://localhost:7980"},
		{"Origin: https://peer.example.com", "Sec-Fetch-Site: cross-site"}, // a proxy renames the host
		{"Origin: http://localhost:7980", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors"},
		{"Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"},
	} {
		headers = append(headers, "Content-Type: application/json; charset=UTF-8")
		if got := e.ask(e.http, "POST", "/v1/leave", "{}", headers...); got.code != http.StatusAccepted {
			t.Errorf("%q: %d %s", headers, got.code, got.body)
		}
	}
	if got := e.get("/", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"); got.code != http.StatusOK {
		t.Errorf("a link from elsewhere: %d", got.code)
	}
	// Who may open the socket may do everything, under any name.
	if got := e.ask(e.local, "POST", "/v1/leave", "", "Host: x"); got.code != http.StatusAccepted {
		t.Errorf("socket: %d %s", got.code, got.body)
	}
	if a.left != 5 {
		t.Errorf("left %d times, want 5", a.left)
	}
}

func TestOldClientWithoutHost(t *testing.T) {
	e := start(t, newFakeAgent())
	_, r := e.raw("GET /livez HTTP/1.0\r\n\r\n")
	line, err := r.ReadString('\n')
	if err != nil || !strings.Contains(line, "200") {
		t.Errorf("got %q, %v, want a 200", line, err)
	}
}

func TestToken(t *testing.T) {
	a := newFakeAgent()
	e := start(t, a, func(c *httpapi.Config) { c.Token = []byte("s3cret-of-the-agent") })
	tests := []struct {
		target string
		header string
		code   int
	}{
		{"/v1/status", "", 401},
		{"/", "", 401},
		{"/metrics", "", 401},
		{"/openapi.json", "", 401},
		{"/no/such/path", "", 401},
		{"/livez/", "", 401},
		{"/livez", "", 200},
		{"/readyz?verbose", "", 200},
		{"/v1/status", "Authorization: Bearer s3cret-of-the-agent", 200},
		{"/v1/status", "Authorization: bearer s3cret-of-the-agent", 200},
		{"/v1/status", "Authorization: Basic YW55OnMzY3JldC1vZi10aGUtYWdlbnQ=", 200},
		{"/v1/status", "Authorization: Basic czNjcmV0LW9mLXRoZS1hZ2VudDo=", 401}, // as the user
		{"/v1/status", "Authorization: Bearer s3cret-of-the-agen", 401},
		{"/v1/status", "Authorization: Bearer ", 401},
		{"/v1/status", "Authorization: s3cret-of-the-agent", 401},
	}
	for _, tt := range tests {
		got := e.get(tt.target, tt.header)
		if got.code != tt.code {
			t.Errorf("%s with %q: %d, want %d", tt.target, tt.header, got.code, tt.code)
		}
		if got.code == 401 {
			problemOf(t, got)
			if got.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s: no WWW-Authenticate", tt.target)
			}
			if strings.Contains(got.body, "s3cret") {
				t.Errorf("%s: the answer has the token: %s", tt.target, got.body)
			}
		}
	}
	if got := e.get("/v1/status?token=s3cret-of-the-agent"); got.code != 401 {
		t.Errorf("a token in the query: %d, want 401", got.code)
	}
	if got := e.ask(e.local, "GET", "/v1/status", ""); got.code != 200 {
		t.Errorf("socket: %d, want 200 without a token", got.code)
	}
}

func TestEveryAnswerHasSecurityHeaders(t *testing.T) {
	e := start(t, newFakeAgent())
	for _, target := range []string{"/", "/v1/status", "/livez", "/metrics", "/nope", "/v1/members?x=1", "/openapi.json"} {
		for _, host := range []string{"localhost", "evil.example.net"} {
			h := e.get(target, "Host: "+host).header
			for name, want := range map[string]string{
				"X-Content-Type-Options":       "nosniff",
				"Referrer-Policy":              "no-referrer",
				"Cross-Origin-Resource-Policy": "same-origin",
				"Cache-Control":                "no-store",
				"X-Frame-Options":              "DENY",
			} {
				if got := h.Get(name); got != want {
					t.Errorf("%s as %s: %s is %q, want %q", target, host, name, got, want)
				}
			}
			csp := h.Get("Content-Security-Policy")
			for _, part := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} {
				if !strings.Contains(csp, part) {
					t.Errorf("%s as %s: policy %q lacks %q", target, host, csp, part)
				}
			}
			if strings.Contains(csp, "unsafe") {
				t.Errorf("%s: policy %q is unsafe", target, csp)
			}
			for name := range h {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s: has %s", target, name)
				}
			}
		}
	}
}

func TestAllowedHostsAreChecked(t *testing.T) {
	for _, bad := range []string{"", "*", "http://x", "a,b", "x:80", "[::1]:80", "x y"} {
		_, err := httpapi.Start(httpapi.Config{TCP: newMemListener(), AllowedHosts: []string{bad}}, newFakeAgent())
		if err == nil || !strings.Contains(err.Error(), "http.allowed_hosts") {
			t.Errorf("allowed host %q: error %v, want one that names http.allowed_hosts", bad, err)
		}
	}
	if _, err := httpapi.Start(httpapi.Config{}, newFakeAgent()); err == nil {
		t.Error("started without a listener")
	}
}
