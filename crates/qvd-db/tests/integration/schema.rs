//! The statements fit the schema.

use testbed::Scratch;

#[tokio::test]
async fn every_statement_prepares_against_the_schema() {
    let scratch = Scratch::deployed("prepared").await;
    let client = scratch.database().client().await.unwrap();
    let mut problems = Vec::new();
    for (_, sql) in qvd_db::statements() {
        if let Err(error) = client.prepare(sql.text).await {
            problems.push(format!("{}: {}", sql.name, error.as_db_error().map_or("?", |e| e.message())));
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}
