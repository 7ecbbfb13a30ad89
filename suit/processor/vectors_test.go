// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"context"
	"crypto/ecdh"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"sealift/cose"
	"sealift/internal/sharedtest"
	"sealift/suit"
	"sealift/suit/report"
)

// exampleKeys are the published keys that the vectors were made with.
func exampleKeys(t testing.TB) Options {
	t.Helper()
	o := Options{LenientDependencies: true, Schemes: []string{"http", "https", "coaps"}}
	for _, name := range []string{"suit_example_p256_priv.pem", "attestam_developer_priv.pem"} {
		priv, err := cose.ParsePrivatePEM(sharedtest.Read(t, "vectors", "keys/"+name))
		if err != nil {
			t.Fatal(err)
		}
		key, err := cose.NewKey(priv.Public())
		if err != nil {
			t.Fatal(err)
		}
		o.Keys = append(o.Keys, key)
	}
	o.MACKeys = [][]byte{symmetric(t, "hmac256_aaaa.cosekey.cbor")}
	return o
}

func symmetric(t testing.TB, name string) []byte {
	t.Helper()
	var key map[int64]any
	if err := cose.Unmarshal(sharedtest.Read(t, "vectors", "keys/"+name), &key); err != nil {
		t.Fatal(err)
	}
	return key[-1].([]byte)
}

// exampleDevice is a device that fits the vectors: their vendor and class, their payloads on the web, their keys.
func exampleDevice(t testing.TB) *memPlatform {
	t.Helper()
	p := newMemPlatform()
	for _, id := range []string{"c0ddd5f15243566087db4f5b0aa26c2f", "fa6b4a53d5ad5fdfbe9de663e4d41ffe"} {
		p.vendors = append(p.vendors, unhex(t, id))
	}
	for _, id := range []string{"db42f7093d8c55baa8c5265fc5820f4e", "1492af1425695e48bf429b2d51f2ab45"} {
		p.classes = append(p.classes, unhex(t, id))
	}
	read := func(path string) []byte { return sharedtest.Read(t, "vectors", path) }
	const ta = "8d82573a-926d-4754-9353-32dc29997f74"
	p.web["https://example.org/"+ta+".ta"] = read("payloads/" + ta + ".ta")
	p.web["https://example.org/"+ta+".suit"] = read("teep-protocol/suit_uri.suit.cbor")
	p.web["http://example.com/dependent.suit"] = read("suit-trust-domains/example0_dependent.suit.cbor")
	p.web["coaps://example.com/encrypted-firmware"] = ciphertextOf(t, "suit-firmware-encryption/suit-manifest-aes-kw-content.suit.cbor")
	p.keys.kek = [][]byte{symmetric(t, "kek_a128kw_aaaa.cosekey.cbor")}
	p.keys.ecdh = []*ecdh.PrivateKey{recipientKey(t)}
	return p
}

// ciphertextOf returns the content that the first command of a vector's install section sets. The drafts publish the
// ciphertext of the manifest that fetches it only inside the one that carries it.
func ciphertextOf(t testing.TB, path string) []byte {
	t.Helper()
	e, err := suit.ParseEnvelope(sharedtest.Read(t, "vectors", path))
	if err != nil {
		t.Fatal(err)
	}
	m, err := e.ManifestInsecure()
	if err != nil {
		t.Fatal(err)
	}
	content, _ := m.Install[0].Params.Bytes(suit.ParamContent)
	return content
}

func recipientKey(t testing.TB) *ecdh.PrivateKey {
	t.Helper()
	var key map[int64]any
	if err := cose.Unmarshal(sharedtest.Read(t, "vectors", "keys/device_ecdh_p256_priv.cosekey.cbor"), &key); err != nil {
		t.Fatal(err)
	}
	priv, err := ecdh.P256().NewPrivateKey(key[-4].([]byte))
	if err != nil {
		t.Fatal(err)
	}
	return priv
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	teepTA     = "TEEP-Device/SecureFS/%8D%82W%3A%92mGT%93S2%DC%29%99%7Ft/ta"
	teepConfig = "TEEP-Device/SecureFS/config.json"
	helloTA    = "Hello, Secure World!"
	firmware   = "This is a real firmware image."
)

// vector is what MANIFEST.tsv says one manifest must do, as an update on a fresh device that fits it.
type vector struct {
	path string
	// reason is what the report must say; ReasonOK for a run that succeeds.
	reason report.Reason
	// want are components afterwards, only some of them where the file is long.
	want map[string]string
	// why a run is refused that another device or a later version might not refuse.
	why string
	// invoke are the components that an invocation after the update starts.
	invoke []string
}

const dummy = "its digests are dummies, no such payload exists"
const updateManagement = "it uses commands of suit-update-management, which this processor refuses in whole"
const oldDraft = "it is of a draft that had install at label 9, and members that are gone"
const invocationOnly = "it has no section for an update"

var vectors = []vector{
	{path: "teep-protocol/suit_uri.suit.cbor", want: map[string]string{teepTA: helloTA}},
	{path: "teep-protocol/suit_integrated.suit.cbor", want: map[string]string{teepTA: helloTA}},
	{path: "teep-protocol/suit_personalization.suit.cbor", want: map[string]string{teepConfig: "", teepTA: helloTA}},

	{path: "suit-manifest/example0_0.suit.cbor", reason: report.ReasonUnauthorised},
	{path: "suit-manifest/example0_1.suit.cbor", reason: report.ReasonOperationFailed, why: invocationOnly},
	{path: "suit-manifest/example1_0.suit.cbor", reason: report.ReasonUnauthorised},
	{path: "suit-manifest/example1_1.suit.cbor", reason: report.ReasonOperationFailed, why: dummy},
	{path: "suit-manifest/example3_0.suit.cbor", reason: report.ReasonUnauthorised},
	{path: "suit-manifest/example3_1.suit.cbor", reason: report.ReasonConditionFailed, why: "the device has no slots 0 and 1 here; TestSlots has"},
	{path: "suit-manifest/example5_0.suit.cbor", reason: report.ReasonUnauthorised},
	{path: "suit-manifest/example5_1.suit.cbor", reason: report.ReasonOperationFailed, why: dummy},

	{path: "suit-trust-domains/example0_dependent.suit.cbor", want: map[string]string{"00": "hello world"}, invoke: []string{"00"}},
	{path: "suit-trust-domains/example1_process.suit.cbor", want: map[string]string{"10": " in multiple trust domains", "00": "hello world"}, invoke: []string{"10"}},

	{path: "suit-firmware-encryption/suit-manifest-aes-kw-content.suit.cbor", want: map[string]string{"plaintext-firmware": firmware}},
	{path: "suit-firmware-encryption/suit-manifest-aes-kw.suit.cbor", want: map[string]string{"plaintext-firmware": firmware}},
	{path: "suit-firmware-encryption/suit-manifest-es-ecdh-content.suit.cbor", want: map[string]string{"decrypted-firmware": firmware}},

	{path: "libcsuit/exp0.suit.cbor", reason: report.ReasonOperationFailed, why: invocationOnly},
	{path: "libcsuit/exp1.suit.cbor", reason: report.ReasonOperationFailed, why: dummy},
	{path: "libcsuit/exp3.suit.cbor", reason: report.ReasonConditionFailed, why: "the device has no slots 0 and 1 here; TestSlots has"},
	{path: "libcsuit/exp5.suit.cbor", reason: report.ReasonOperationFailed, why: dummy},
	{path: "libcsuit/expAF.suit.cbor", want: map[string]string{"plaintext-firmware": firmware}},
	{path: "libcsuit/expAW.suit.cbor", want: map[string]string{"plaintext-firmware": firmware}},
	{path: "libcsuit/expD.suit.cbor", want: map[string]string{teepConfig: "", teepTA: helloTA}},
	{path: "libcsuit/expEW.suit.cbor", want: map[string]string{"decrypted-firmware": firmware}},
	{path: "libcsuit/expI.suit.cbor", want: map[string]string{teepTA: helloTA}},
	{path: "libcsuit/expS0.suit.cbor", want: map[string]string{"00": "hello world"}, invoke: []string{"00"}},
	{path: "libcsuit/expS2.suit.cbor", want: map[string]string{"10": " in multiple trust domains"}, invoke: []string{"10"}},
	{path: "libcsuit/expU.suit.cbor", want: map[string]string{teepTA: helloTA}},
	{path: "libcsuit/expU0.suit.cbor", reason: report.ReasonParameterUnsupported, why: updateManagement},
	{path: "libcsuit/expU2.suit.cbor", reason: report.ReasonParameterUnsupported, why: updateManagement},

	{path: "attestam/text.1.envelope.suit.cbor", want: map[string]string{"hello.txt": ""}},
	{path: "dthaler-teep/38b08738.suit.cbor", reason: report.ReasonUnauthorised},

	{path: "tamproto/suit_manifest_exp1.suit.cbor", reason: report.ReasonCBORParse},
	{path: "teep-device/suit-id-example0.suit.cbor", reason: report.ReasonCBORParse, why: oldDraft},
	{path: "teep-device/suit-id-example1.suit.cbor", reason: report.ReasonCBORParse, why: oldDraft},
	{path: "teep-device/suit-id-example3.suit.cbor", reason: report.ReasonCBORParse, why: oldDraft},
	{path: "teep-device/suit-id-example4.suit.cbor", reason: report.ReasonCBORParse, why: oldDraft},
	{path: "teep-device/suit-id-example5.suit.cbor", reason: report.ReasonCBORParse, why: oldDraft},
	{path: "teep-device/suit-id-example7.suit.cbor", reason: report.ReasonCBORParse, why: oldDraft},
	{path: "teep-device/teep-id-ex1.suit.cbor", reason: report.ReasonCBORParse, why: oldDraft},
	{path: "teep-device/teep-id-ex3.suit.cbor", reason: report.ReasonCBORParse, why: oldDraft},

	{path: "generated/suit/seq3_ok.suit.cbor", want: map[string]string{teepTA: helloTA}},
	{path: "generated/suit/seq3_again.suit.cbor", want: map[string]string{teepTA: helloTA}},
	{path: "generated/suit/neg_payload_mismatch.suit.cbor", reason: report.ReasonConditionFailed},
	{path: "generated/suit/neg_vendor.suit.cbor", reason: report.ReasonConditionFailed},
	{path: "generated/suit/neg_unknown_command.suit.cbor", reason: report.ReasonCommandUnsupported},
	{path: "generated/suit/neg_version2.suit.cbor", reason: report.ReasonCBORParse},
	{path: "generated/suit/neg_index_out_of_range.suit.cbor", reason: report.ReasonComponentUnsupported},
	{path: "generated/suit/neg_softfail_outside.suit.cbor", reason: report.ReasonCBORParse},
	{path: "generated/suit/try_each_nil.suit.cbor", want: map[string]string{teepTA: helloTA}},
	{path: "generated/suit/neg_try_each_all_fail.suit.cbor", reason: report.ReasonConditionFailed},
	{path: "generated/suit/run_seq_soft.suit.cbor", want: map[string]string{teepTA: helloTA}},
	{path: "generated/suit/severed_install_present.suit.cbor", want: map[string]string{teepTA: helloTA}},
	{path: "generated/suit/neg_severed_install_missing.suit.cbor", reason: report.ReasonSeveringUnsupported},
	{path: "generated/suit/two_auth_blocks.suit.cbor", want: map[string]string{teepTA: helloTA}},
	{path: "generated/suit/neg_no_auth.suit.cbor", reason: report.ReasonUnauthorised},
	{path: "generated/suit/neg_untrusted_signer.suit.cbor", reason: report.ReasonUnauthorised},
	{path: "generated/suit/neg_manifest_flip.suit.cbor", reason: report.ReasonUnauthorised},
	{path: "generated/suit/legacy_install_label9.suit.cbor", reason: report.ReasonOperationFailed},
	{path: "generated/suit/copy_swap.suit.cbor", want: map[string]string{"a": "BB", "b": "AA", "c": "BB"}},
}

// suitFolders hold vectors of SUIT that are not all manifests.
var suitFolders = []string{"suit-manifest", "suit-trust-domains", "suit-firmware-encryption", "libcsuit", "suit-manifest-generator"}

// decryptionVectors are ciphertexts with their encryption-info, without extension.
var decryptionVectors = []string{
	"libcsuit/encryption_info_aes", "libcsuit/encryption_info_esdh", "libcsuit/encryption_info_config_esdh",
	"suit-manifest-generator/image_aeskw_gcm", "suit-manifest-generator/image_esdh_gcm",
	"suit-manifest-generator/config_aeskw_gcm", "suit-manifest-generator/config_esdh_ctr",
}

// accounted reports whether a vector that is no manifest is tested elsewhere, or why it is not.
func accounted(path string) bool {
	stem, isCiphertext := strings.CutSuffix(path, ".enc")
	stem, isInfo := strings.CutSuffix(stem, ".encinfo.cbor")
	switch {
	case isCiphertext || isInfo:
		return slices.Contains(decryptionVectors, stem)
	case path == "suit-firmware-encryption/a128kw_kdf_context.cbor":
		return true // TestKDFContext of package cose
	}
	// Input of another project's generator, not a wire format; the manifests made from it are in the list.
	return strings.HasPrefix(path, "suit-manifest/") && strings.HasSuffix(path, ".json")
}

// TestVectors runs every manifest of the vectors and sees that each row of MANIFEST.tsv that is a manifest is here.
func TestVectors(t *testing.T) {
	listed := map[string]bool{}
	for _, v := range vectors {
		listed[v.path] = true
	}
	others := 0
	for _, row := range sharedtest.Manifest(t, "vectors") {
		path := row["path"]
		folder, _, _ := strings.Cut(path, "/")
		switch {
		case strings.HasSuffix(path, ".suit.cbor"):
			if !listed[path] {
				t.Errorf("%s is not tested", path)
			}
		case slices.Contains(suitFolders, folder):
			if others++; !accounted(path) {
				t.Errorf("%s is not tested, and nothing says why", path)
			}
		}
	}
	ran, refused := 0, 0
	for _, v := range vectors {
		t.Run(v.path, func(t *testing.T) { runVector(t, v) })
		if v.reason == report.ReasonOK {
			ran++
		} else {
			refused++
		}
	}
	t.Logf("%d manifests checked: %d ran to their end, %d were refused for the reason stated; %d other SUIT vectors are accounted for",
		ran+refused, ran, refused, others)
}

func runVector(t *testing.T, v vector) {
	p := exampleDevice(t)
	envelope := sharedtest.Read(t, "vectors", v.path)
	proc := New(p, exampleKeys(t))
	out, err := proc.Update(context.Background(), envelope)
	checkReport(t, out, err)
	if v.reason != report.ReasonOK {
		if err == nil {
			t.Fatalf("accepted, should fail with %v %s", v.reason, v.why)
		}
		if got := out.Report.Failure.Reason; got != v.reason {
			t.Errorf("reason %v, want %v: %v", got, v.reason, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range v.want {
		got, ok := p.components[id]
		if !ok || want != "" && string(got) != want {
			t.Errorf("component %s is %q (exists: %v), want %q", id, got, ok, want)
		}
	}
	p.commit(out)
	if v.invoke != nil {
		out, err := proc.Invocation(context.Background(), envelope)
		checkReport(t, out, err)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Join(p.invoked, " ") != strings.Join(v.invoke, " ") {
			t.Errorf("started %v, want %v", p.invoked, v.invoke)
		}
	}
}

// checkReport: there is a report for every run, it says what the error says, and it survives its own encoding.
func checkReport(t testing.TB, out *Outcome, err error) {
	t.Helper()
	if out == nil || out.Report == nil {
		t.Fatal("no report")
	}
	if out.Report.OK() != (err == nil) {
		t.Errorf("report says ok=%v, the error is %v", out.Report.OK(), err)
	}
	data, merr := out.Report.Marshal()
	if merr != nil {
		t.Fatal(merr)
	}
	back, perr := report.Parse(data)
	if perr != nil {
		t.Fatal(perr)
	}
	again, _ := back.Marshal()
	if string(again) != string(data) {
		t.Errorf("report changes in its own encoding:\n%x\n%x", data, again)
	}
}

// TestPersonalizationPlaintext compares the decrypted PD of the TEEP draft with its published plaintext.
func TestPersonalizationPlaintext(t *testing.T) {
	p := exampleDevice(t)
	out, err := New(p, exampleKeys(t)).Update(context.Background(), sharedtest.Read(t, "vectors", "teep-protocol/suit_personalization.suit.cbor"))
	if err != nil {
		t.Fatal(err)
	}
	if want := sharedtest.Read(t, "vectors", "payloads/config.json"); string(p.components[teepConfig]) != string(want) {
		t.Errorf("decrypted to %q", p.components[teepConfig])
	}
	if len(out.Manifests) != 2 || out.Manifests[0].Root || !out.Manifests[1].Root {
		t.Errorf("manifests: %+v", out.Manifests)
	}
}

// TestDecryptionVectors copies each published ciphertext through its encryption-info.
func TestDecryptionVectors(t *testing.T) {
	plain := map[string]string{"image": "payloads/raw_image.bin", "config": "payloads/config.json", "encryption_info": "payloads/raw_image.bin"}
	plain["encryption_info_config"] = "payloads/config.json"
	for _, name := range decryptionVectors {
		t.Run(name, func(t *testing.T) {
			want := plain["image"]
			if strings.Contains(name, "config") {
				want = plain["config"]
			}
			ciphertext := sharedtest.Read(t, "vectors", name+".enc")
			p := exampleDevice(t)
			p.web["https://example.org/enc"] = ciphertext
			b := encryptedBuilder(sharedtest.Read(t, "vectors", name+".encinfo.cbor"), suit.SHA256(ciphertext), "https://example.org/enc")
			update(t, p, b, nil)
			if got := p.components["pd/app/f"]; string(got) != string(sharedtest.Read(t, "vectors", want)) {
				t.Errorf("decrypted to %q", got)
			}
		})
	}
}

// TestManifestsInTEEP runs the manifests inside the published Update messages: untagged, and one of an old draft.
func TestManifestsInTEEP(t *testing.T) {
	var msg []cose.RawMessage
	var update map[int64]cose.RawMessage
	var list [][]byte
	decode := func(data []byte, v any) {
		t.Helper()
		if err := cose.Unmarshal(data, v); err != nil {
			t.Fatal(err)
		}
	}
	decode(sharedtest.Read(t, "vectors", "teep-protocol/update.cbor"), &msg)
	decode(msg[1], &update)
	decode(update[10], &list)
	for _, envelope := range list {
		p := exampleDevice(t)
		e := refusedBytes(t, p, envelope, exampleKeys(t))
		if len(p.creates) != 0 {
			t.Errorf("wrote %v before: %v", p.creates, e)
		}
	}
	var sign1 cbor.RawTag
	var parts []cose.RawMessage
	var payload []byte
	decode(sharedtest.Read(t, "vectors", "generated/teep/update_three_manifests.cbor"), &sign1)
	decode(sign1.Content, &parts)
	decode(parts[2], &payload)
	decode(payload, &msg)
	decode(msg[1], &update)
	list = nil
	decode(update[10], &list)
	p := exampleDevice(t)
	for _, envelope := range list {
		out, err := New(p, exampleKeys(t)).Update(context.Background(), envelope)
		if err != nil {
			t.Fatal(err)
		}
		p.commit(out)
	}
	if len(list) != 3 || string(p.components[teepTA]) != helloTA || len(p.components[teepConfig]) == 0 {
		t.Errorf("%d manifests left %v", len(list), p.components)
	}
}
