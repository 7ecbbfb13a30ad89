// SPDX-License-Identifier: Apache-2.0

package rehearsal_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"sealift/cose"
	"sealift/internal/owner/inspect"
	"sealift/internal/rehearsal"
	"sealift/internal/sharedtest"
	"sealift/suit"
	"sealift/suit/report"
)

func keys(t testing.TB) *inspect.Keys {
	t.Helper()
	k := &inspect.Keys{}
	for _, file := range []string{"suit_example_p256_pub.pem", "hmac256_aaaa.cosekey.cbor"} {
		if err := k.AddFile(file, sharedtest.Read(t, "vectors", "keys/"+file)); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

func outcomes(r *rehearsal.Result) string {
	var b strings.Builder
	for _, s := range r.Steps {
		b.WriteString(s.Section + " " + s.Command + " " + s.Component + ": " + s.Outcome + "\n")
	}
	return b.String()
}

// TestVectors rehearses manifests of other authors in a temporary folder of its own, which is empty afterwards.
func TestVectors(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	for _, c := range []struct {
		file string
		ok   bool
		want []string // lines that are among the steps
	}{
		{"generated/suit/seq3_ok.suit.cbor", true, []string{"install fetch", "image-match"}},
		{"generated/suit/neg_payload_mismatch.suit.cbor", false, []string{"FAILED"}},
		{"generated/suit/try_each_nil.suit.cbor", true, []string{"try-each", "abort"}},
		{"generated/suit/neg_try_each_all_fail.suit.cbor", false, []string{"try-each"}},
		{"generated/suit/run_seq_soft.suit.cbor", true, []string{"run-sequence"}},
		{"generated/suit/copy_swap.suit.cbor", true, []string{"swap", "copy"}},
		{"generated/suit/neg_unknown_command.suit.cbor", false, nil},
		{"generated/suit/neg_untrusted_signer.suit.cbor", false, nil},
		{"generated/suit/neg_severed_install_missing.suit.cbor", false, nil},
		{"teep-protocol/suit_integrated.suit.cbor", true, []string{"install fetch"}},
	} {
		r, err := rehearsal.Run(context.Background(), sharedtest.Read(t, "vectors", c.file), "update",
			rehearsal.Setup{Keys: keys(t), Now: time.Unix(1_700_000_000, 0), Lenient: true})
		if err != nil {
			t.Fatal(err)
		}
		if r.OK != c.ok {
			t.Errorf("%s: ok %v, %s", c.file, r.OK, r.Error)
		}
		got := outcomes(r)
		for _, want := range c.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q is not in\n%s", c.file, want, got)
			}
		}
		if parsed, err := report.Parse(r.Report); err != nil || parsed.OK() != c.ok {
			t.Errorf("%s: the report is not the run's: %v", c.file, err)
		}
		if c.ok && strings.Contains(got, "FAILED") {
			t.Errorf("%s:\n%s", c.file, got)
		}
	}
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestNested: of nested commands each result is shown, though the manifest lets none of them be reported.
func TestNested(t *testing.T) {
	signer, err := cose.NewSigner(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	silent := func(c suit.Command) suit.Command { c.Policy = 0; return c }
	b := &suit.Builder{Sequence: 1}
	b.AddComponent(suit.NewComponentID("a"))
	b.Install = suit.Sequence{
		suit.Override(suit.Params{suit.ParamContent: []byte("x")}),
		silent(suit.TryEach(
			suit.Sequence{silent(suit.Abort()), silent(suit.Write())},
			suit.Sequence{suit.RunSequence(silent(suit.Write()))},
			suit.Sequence{silent(suit.Abort())},
		)),
		silent(suit.TryEach(suit.Sequence{silent(suit.Abort())}, suit.Sequence{silent(suit.Abort())})),
		silent(suit.Write()),
	}
	envelope, err := b.Build(rand.Reader, signer)
	if err != nil {
		t.Fatal(err)
	}
	r, err := rehearsal.Run(context.Background(), envelope, "update", rehearsal.Setup{Keys: &inspect.Keys{Public: []*cose.Key{signer.Key()}}})
	if err != nil || r.OK {
		t.Fatalf("%v, %+v", err, r)
	}
	const want = "install override-parameters : ok\ninstall try-each a: ok\ninstall abort a: did not hold\ninstall write a: not run\n" +
		"install run-sequence a: ok\ninstall write a: ok\ninstall abort a: not run\n" +
		"install try-each a: FAILED inside\ninstall abort a: FAILED\ninstall abort a: FAILED\ninstall write a: not reached\n"
	if got := outcomes(r); got != want {
		t.Errorf("\n%s\nwant\n%s", got, want)
	}
}

// TestFailure: the commands before the one that failed are ok, those after it were not reached.
func TestFailure(t *testing.T) {
	envelope := sharedtest.Read(t, "vectors", "teep-protocol/suit_uri.suit.cbor")
	r, err := rehearsal.Run(context.Background(), envelope, "update", rehearsal.Setup{Keys: keys(t)})
	if err != nil || r.OK {
		t.Fatalf("%v, %+v", err, r)
	}
	state := "ok"
	for _, s := range r.Steps {
		switch {
		case s.Outcome == "FAILED" && state == "ok" && s.Command == "fetch":
			state = "not reached"
		case s.Outcome != state:
			t.Errorf("%s %s: %s, want %s", s.Section, s.Command, s.Outcome, state)
		}
	}
	if state == "ok" {
		t.Errorf("nothing failed:\n%s", outcomes(r))
	}
	if _, err := rehearsal.Run(context.Background(), envelope, "upgrade", rehearsal.Setup{}); !errors.Is(err, rehearsal.ErrProcedure) {
		t.Errorf("an unknown procedure: %v", err)
	}
}

// TestHostileNames: identifiers that would be paths name files in the folder and nothing else.
func TestHostileNames(t *testing.T) {
	r, err := rehearsal.Run(context.Background(), sharedtest.Read(t, "vectors", "generated/suit/seq3_ok.suit.cbor"), "update", rehearsal.Setup{
		Keys: keys(t), Components: map[string][]byte{"..": []byte("x"), "../../x": []byte("y"), "%": []byte("z"), strings.Repeat("a/", 300) + "a": nil},
	})
	if err != nil || !r.OK {
		t.Errorf("%v, %+v", err, r)
	}
}
