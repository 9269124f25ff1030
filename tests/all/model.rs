//! The real model through ONNX Runtime: against its check values and the official 32-bit weights, and what is said when
//! something is missing.

use std::{fs, path::Path, sync::OnceLock};

use harbinger::{
    edge::model::{ModelError, OnnxEmbedder, Settings},
    engine::embed::{Embedder, Embedding},
};
use serde::Deserialize;

/// Made by integration/assets/fp32_reference.py from the official weights; our own sentences.
const REFERENCE: &str = include_str!("../../integration/assets/fp32_reference.json");

#[derive(Deserialize)]
struct Reference {
    text: String,
    vector: Vec<f32>,
}

pub fn assets() -> std::path::PathBuf {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
    assert!(assets.join("libonnxruntime.so").exists(), "run `make assets`");
    assets
}

fn settings() -> Settings {
    Settings {
        model_directory: Some(assets().join("model")),
        runtime_library: Some(assets().join("libonnxruntime.so")),
        ..Settings::default()
    }
}

pub fn embedder() -> &'static OnnxEmbedder {
    static EMBEDDER: OnceLock<OnnxEmbedder> = OnceLock::new();
    EMBEDDER.get_or_init(|| OnnxEmbedder::load(&settings()).unwrap())
}

fn embed(texts: &[&str]) -> Vec<Embedding> {
    embedder().embed(texts).unwrap()
}

#[test]
fn the_check_values_of_the_design_hold() {
    let all = embed(&["User login failed.", "Login unsuccessful.", "Service unavailable."]);
    assert!(
        (all[0].cosine(&all[1]) - 0.824).abs() < 0.005,
        "{}",
        all[0].cosine(&all[1])
    );
    // 0.399 by the 32-bit weights, 0.410 by the 8-bit ones.
    assert!(
        (all[0].cosine(&all[2]) - 0.40).abs() < 0.015,
        "{}",
        all[0].cosine(&all[2])
    );
}

#[test]
fn eight_bit_weights_stay_within_two_thousandths_of_the_official_ones() {
    let references: Vec<Reference> = serde_json::from_str(REFERENCE).unwrap();
    assert!(references.len() >= 20);
    let texts: Vec<&str> = references.iter().map(|reference| reference.text.as_str()).collect();
    for (reference, embedding) in references.iter().zip(embed(&texts)) {
        let cosine = Embedding::new(reference.vector.clone()).unwrap().cosine(&embedding);
        // A word or none leaves little to average over.
        let least = if reference.text.split_whitespace().count() < 2 {
            0.996
        } else {
            0.998
        };
        assert!(cosine >= least, "{cosine} for {:?}", reference.text);
    }
}

/// A template's embedding may come from any batch; what is remembered must not depend on which.
#[test]
fn an_embedding_does_not_depend_on_the_texts_beside_it() {
    let references: Vec<Reference> = serde_json::from_str(REFERENCE).unwrap();
    let texts: Vec<&str> = references.iter().map(|reference| reference.text.as_str()).collect();
    for (text, together) in texts.iter().zip(embed(&texts)) {
        assert_eq!(embed(&[text])[0], together, "{text:?}");
    }
}

/// Our own sentences.
const FOREIGN: [&str; 8] = [
    "データベースへの接続に失敗しました: <n> 秒後にタイムアウト",
    "トランザクション<n>のロックを待っています",
    "ERROR: 重複したキー値は一意性制約違反となります",
    "无法连接到数据库：<n> 秒后超时",
    "Не удалось подключиться к базе данных: истекло время ожидания (<n> с)",
    "데이터베이스에 연결할 수 없습니다: <n>초 후 시간 초과",
    "تعذر الاتصال بقاعدة البيانات",
    "Αποτυχία σύνδεσης με τη βάση δεδομένων",
];
const LATIN: [&str; 9] = [
    "connect() failed (<n>: Connection refused) while connecting to upstream, client: <ip>, server: shop",
    "could not extend file \"pg_tblspc/<n>/PG_<n>_<n>/<n>\": No space left on device",
    "java.lang.NullPointerException at com.example.shop.CheckoutController.submit",
    "CE sym <n>, at <hex>, mask <hex>",
    "sshd: psql <n> kworker etcdserver rlimit",
    "<n> <n> <n>",
    "",
    "Verbindung zur Datenbank fehlgeschlagen: Zeitüberschreitung nach <n> Sekunden",
    "La connexion à la base de données a échoué après <n> secondes",
];

#[test]
fn what_the_model_does_not_know_is_told_by_the_script() {
    for (text, embedding) in FOREIGN.iter().zip(embed(&FOREIGN)) {
        eprintln!("{:.2} {text}", embedding.unknown_share());
        assert!(embedding.unknown_share() > 0.9, "{} {text}", embedding.unknown_share());
    }
    for (text, embedding) in LATIN.iter().zip(embed(&LATIN)) {
        eprintln!("{:.2} {text}", embedding.unknown_share());
        assert!(embedding.unknown_share() == 0.0, "{} {text}", embedding.unknown_share());
    }
    let half = &embed(&["connection lost: データベースへ"])[0];
    assert!((0.6..0.9).contains(&half.unknown_share()), "{}", half.unknown_share());
}

#[test]
fn what_is_missing_is_named_with_the_command_that_fetches_it() {
    let empty = tempfile::tempdir().unwrap();
    let no_model = Settings {
        model_directory: Some(empty.path().to_owned()),
        ..settings()
    };
    let no_library = Settings {
        runtime_library: Some(empty.path().join("libonnxruntime.so")),
        ..settings()
    };
    for settings in [no_model, no_library] {
        let error = OnnxEmbedder::load(&settings).unwrap_err();
        assert!(matches!(error, ModelError::Missing { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(empty.path().to_str().unwrap()) && text.contains("make assets"),
            "{text}"
        );
    }
}

#[test]
fn files_of_another_kind_are_refused_each_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path();
    fs::write(broken.join("model.onnx"), b"not a model").unwrap();
    fs::copy(assets().join("model/tokenizer.json"), broken.join("tokenizer.json")).unwrap();
    let model = Settings {
        model_directory: Some(broken.to_owned()),
        ..settings()
    };
    assert!(matches!(OnnxEmbedder::load(&model), Err(ModelError::Model { .. })));

    fs::copy(assets().join("model/model.onnx"), broken.join("model.onnx")).unwrap();
    fs::write(broken.join("tokenizer.json"), b"{}").unwrap();
    assert!(matches!(OnnxEmbedder::load(&model), Err(ModelError::Tokenizer { .. })));
}
